"""The message for a name that is not among the choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, value: str, choices: Iterable[str]) -> str:
    """`unknown <what> '<value>'; did you mean '<closest>'? choices: ...`."""
    names = list(choices)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown {what} '{value}'; {hint}choices: {', '.join(names)}"
