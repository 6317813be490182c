"""Write docs/methods/README.md anew: the table of the methods, with measured times.

usage: python -m benchmarks page [KEY=VALUE ...]

{keys}
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.methods.registry import METHODS, TRAITS, MethodEntry

Ratios = Mapping[str, Mapping[int, str]]
"""Method -> number of tasks -> time of its update relative to the plain one."""


@dataclass
class Arguments:
    """Options of `page`."""

    page: Annotated[str, PATH, "the page to write"] = "docs/methods/README.md"
    ratios: Annotated[str, PATH, "what `python -m benchmarks methods csv=` wrote"] = "docs/methods/ratios.csv"


def main(words: Sequence[str]) -> int:
    """Write the page."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    path = Path(arguments.page)
    path.write_text(page(read_ratios(Path(arguments.ratios)), path.parent))
    print(f"written to {path}")
    return 0


def read_ratios(path: Path) -> Ratios:
    """The ratios that `python -m benchmarks methods csv=` wrote."""
    ratios: dict[str, dict[int, str]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                ratios.setdefault(row["method"], {})[int(row["tasks"])] = row["ratio"]
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(f"ratios={path}: not written by `python -m benchmarks methods csv=`: {error!r}") from error
    return ratios


def page(ratios: Ratios, folder: Path) -> str:
    """The page's text; names link to the pages in its folder."""
    counts = sorted({tasks for row in ratios.values() for tasks in row})
    head = ["method", "paper", "needs", "from", *TRAITS, "compared with", *(f"K={tasks}" for tasks in counts)]
    rows = [_row(entry, ratios.get(entry.name, {}), counts, folder) for entry in METHODS.values()]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _row(entry: MethodEntry, ratios: Mapping[int, str], counts: list[int], folder: Path) -> list[str]:
    pages = (entry.name, entry.origin.lower())
    found = next((name for name in pages if (folder / f"{name}.md").is_file()), None)
    name = f"`{entry.name}`" + "".join(f", `{alias}`" for alias in entry.aliases)
    linked = name if found is None else f"[{name}]({found}.md)"
    traits = ["yes" if trait in entry.traits else "-" for trait in TRAITS]
    costs = [ratios.get(tasks, "-") for tasks in counts]
    return [linked, entry.paper, entry.needs, entry.origin, *traits, entry.parity or "-", *costs]


_INTRODUCTION = """# Methods

One page a method; [adding.md](adding.md) adds one. This table is written by

    python -m benchmarks methods seconds=330 csv=docs/methods/ratios.csv
    python -m benchmarks page

`needs` is what a method asks for at every step: losses are free, a gramian is the K x K products of the task
gradients, a jacobian is the gradients themselves. The traits hold of the direction d(J) of a fresh method with its
default options, and are tested over sampled Jacobians; each that is not claimed has a counter-example in
`tests/methods/cases`:

- non-conflicting: J d >= 0, so to first order no task's loss rises;
- equivariant: another order of the tasks gives the same direction;
- homogeneous: d(c J) = c d(J) for a number c > 0;
- linear: d(diag(c) J) is linear in c > 0;
- scale-invariant: d(diag(c) J) points where d(J) does, whatever c > 0.

The last columns are the time of one update of SAC's twin critics (3 x 400, 128 transitions a task) with the method,
relative to that of the summed losses, for K tasks, in one process on 2 CPU cores.

"""
