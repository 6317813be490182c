"""The surgery methods.

usage: mtrl-surgery methods            every method, with its options and their defaults
       mtrl-surgery methods NAME ...   what each option means

`needs` is what a method asks for at every step: losses are free, a gramian is the K x K products of the task
gradients, a jacobian is the gradients themselves. Choose with `train method=NAME method.OPTION=VALUE`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from mtrl_surgery.cli.arguments import usage, wants_help
from mtrl_surgery.cli.screen import WIDTH, as_word, listing
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method
from mtrl_surgery.runs.console import table


def main(words: Sequence[str]) -> int:
    """Print the table, or the options of the methods that are named."""
    if wants_help(words):
        print(usage(__doc__))
        return 0
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
