"""`python -m benchmarks <name>`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtrl_surgery.cli.entry import Command, CommandTable, run

TABLE = CommandTable(
    name="python -m benchmarks",
    title="what it costs, and whether it holds, on this machine",
    commands={
        "update": Command("benchmarks.update", "whole SAC updates with each method"),
        "methods": Command("benchmarks.methods", "the critics' update with every method, as a ratio to the plain one"),
        "page": Command("benchmarks.page", "docs/methods/README.md, the table of the methods, with those ratios"),
        "rollout": Command("benchmarks.rollout", "Ray's rollout workers against Meta-World's own vector environment"),
        "chunks": Command("benchmarks.chunks", "what Ray costs for a chunk, by its length"),
        "learners": Command("benchmarks.learners", "whether several learners are one, with every method"),
        "scaling": Command("benchmarks.scaling", "how fast several learners are, and what they send each other"),
        "chaos": Command("benchmarks.chaos", "a run on several Ray nodes whose parts are killed while it goes on"),
        "library": Command(
            "benchmarks.library", "`Surgery` in a plain loop, beside a loop over the losses and TorchJD"
        ),
        "vision": Command("benchmarks.vision", "time and memory of per-task gradients with one shared input"),
    },
    first="a first one of some seconds",
    example="python -m benchmarks update updates=5",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; see `mtrl_surgery.cli.entry.run`.

    Args:
        argv: the words after the program's name; None takes them from the command line.
    """
    return run(TABLE, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
