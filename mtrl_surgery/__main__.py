"""`python -m mtrl_surgery <command>`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtrl_surgery.cli.entry import CommandTable, run
from mtrl_surgery.commands import COMMANDS

TABLE = CommandTable(
    name="mtrl-surgery",
    title="multi-task reinforcement learning with gradient surgery",
    commands=COMMANDS,
    first="a first run of some minutes",
    example="mtrl-surgery train experiment=easy3 method=samgs",
    also="      (or: python -m mtrl_surgery COMMAND ...)",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see `mtrl_surgery.cli.entry.run`.

    Args:
        argv: the words after the program's name; None takes them from the command line.
    """
    return run(TABLE, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
