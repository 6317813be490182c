"""The surgery methods.

usage: mtrl-surgery methods            every method, with its options and their defaults
       mtrl-surgery methods NAME ...   what each option means
       mtrl-surgery methods page=docs/methods/README.md ratios=docs/methods/ratios.csv
                                       the table of the documentation, with what `bench methods csv=` measured

`needs` is what a method asks for at every step: losses are free, a gramian is the K x K products of the task
gradients, a jacobian is the gradients themselves. Choose with `train method=NAME method.OPTION=VALUE`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.tables import table
from mtrl_surgery.commands.methods_page import PageArguments, write_page
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method


def main(words: Sequence[str]) -> int:
    """Print the table, or the options of the methods that are named."""
    if wants_help(words):
        print(usage(__doc__))
        return 0
    if any("=" in word for word in words):
        return write_page(parse(words, PageArguments))
    print("\n\n".join(details(find_method(name)) for name in words) if words else overview())
    return 0


def overview() -> str:
    """A row a method."""
    rows = [
        (entry.name, entry.needs, entry.paper, entry.origin, options_in_a_line(entry), entry.summary)
        for entry in METHODS.values()
    ]
    return table(("method", "needs", "paper", "origin", "options", "what it does"), rows)


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
        (f"  {option.name}", option.default, "|".join(map(str, option.choices)), option.summary)
        for option in entry.options
    ]
    return f"{head}\n\n{table(('  option', 'default', 'choices', 'meaning'), rows)}"


def options_in_a_line(entry: MethodEntry) -> str:
    """`c=0.4 rescale=0`, or `-`."""
    return " ".join(f"{option.name}={option.default}".replace(" ", "") for option in entry.options) or "-"
