"""`python -m experiments_vision <command>`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments_vision.commands import COMMANDS
from mtrl_surgery.cli.entry import CommandTable, run

TABLE = CommandTable(
    name="python -m experiments_vision",
    title="the supervised benchmarks of gradient surgery",
    commands=COMMANDS,
    first="a first run of a minute, with no download",
    example="python -m experiments_vision train method=samgs",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see `mtrl_surgery.cli.entry.run`.

    Args:
        argv: the words after the program's name; None takes them from the command line.
    """
    return run(TABLE, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
