"""The surgery methods.

usage: mtrl-surgery methods            every method, with its options and their defaults
       mtrl-surgery methods NAME ...   what each option means
       mtrl-surgery methods page=docs/methods/README.md ratios=docs/methods/ratios.csv
                                       the table of the documentation, with the times that
                                       `python -m benchmarks methods csv=` measured

`needs` is what a method asks for at every step: losses are free, a gramian is the K x K products of the task
gradients, a jacobian is the gradients themselves. Choose with `train method=NAME method.OPTION=VALUE`.
"""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.screen import WIDTH, as_word, listing
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.methods.registry import METHODS, TRAITS, MethodEntry, find_method
from mtrl_surgery.runs.console import table

Ratios = Mapping[str, Mapping[int, str]]
"""Method -> number of tasks -> time of its update relative to the plain one."""


@dataclass
class Arguments:
    """Options of `methods page=`."""

    page: Annotated[str, PATH, "the page to write"] = "docs/methods/README.md"
    ratios: Annotated[str, PATH, "what `python -m benchmarks methods csv=` wrote"] = "docs/methods/ratios.csv"


def main(words: Sequence[str]) -> int:
    """Print the table, or the options of the methods that are named."""
    if wants_help(words):
        print(usage(__doc__))
        return 0
    if any("=" in word for word in words):
        return write_page(parse(words, Arguments))
    print("\n\n".join(details(find_method(name)) for name in words) if words else overview())
    return 0


def overview() -> str:
    """A row a method, and below it what it does and its options."""
    rows = [
        (", ".join((entry.name, *entry.aliases)), entry.needs, entry.origin, entry.paper) for entry in METHODS.values()
    ]
    head, rule, *lines = table(("method", "needs", "origin", "paper"), rows).splitlines()
    shown = [head, rule]
    for line, entry in zip(lines, METHODS.values(), strict=True):
        shown.append(line)
        for text in (entry.summary, options_in_a_line(entry)):
            shown += textwrap.wrap(
                text, WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
            )
    return "\n".join(shown)


def details(entry: MethodEntry) -> str:
    """The method and each of its options."""
    head = f"{entry.name}: {entry.summary}\n  paper {entry.paper}, needs {entry.needs}, origin {entry.origin}"
    if entry.aliases:
        head += f"\n  also called {', '.join(entry.aliases)}"
    if entry.traits:
        head += f"\n  {', '.join(entry.traits)}"
    if not entry.options:
        return f"{head}\n  no options"
    rows = [
        (one.name, one.default, one.summary + (f": {' | '.join(map(str, one.choices))}" if one.choices else ""))
        for one in entry.options
    ]
    return f"{head}\n\n{listing(rows)}"


def options_in_a_line(entry: MethodEntry) -> str:
    """`c=0.4 rescale=0`, or `no options`."""
    return " ".join(f"{option.name}={as_word(option.default)}" for option in entry.options) or "no options"


def write_page(arguments: Arguments) -> int:
    """Write the page anew."""
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
    python -m mtrl_surgery methods page=docs/methods/README.md ratios=docs/methods/ratios.csv

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
