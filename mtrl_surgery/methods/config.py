"""What the options of every method share: checks, errors. Importing this file does not import torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class MethodError(ValueError):
    """An option, a state or an input that a method cannot work with; the message names it and the choices."""


def option(
    default: Any,
    summary: str,
    *,
    choices: Sequence[Any] = (),
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field that knows what it means and which values it takes.

    Args:
        default: The default value; a list is copied for every instance.
        summary: One line for the tables of the command line and the docs.
        choices: The values it takes, empty for any.
        at_least: Smallest value (inclusive) of a number, or of each number in a list.
        above: Lower bound (exclusive).
        below: Upper bound (exclusive).
    """
    rules = {"choices": tuple(choices), "at_least": at_least, "above": above, "below": below}
    metadata = {"summary": summary, **rules}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class MethodConfig:
    """What every method's options have: the code name, and checks of each against its `option(...)`."""

    name: str = "?"

    def __post_init__(self) -> None:
        """Checks every option.

        Raises:
            MethodError: naming the option, its value and what it may be.
        """
        for field in dataclasses.fields(self):
            if field.metadata:
                _check(f"{self.name}.{field.name}", getattr(self, field.name), field.metadata)


def _check(key: str, value: Any, rule: Any) -> None:
    if rule["choices"] and value not in rule["choices"]:
        raise MethodError(f"{key}={value!r}: choose one of {', '.join(map(str, rule['choices']))}")
    bounds = [(sign, rule[name]) for sign, name in ((">=", "at_least"), (">", "above"), ("<", "below"))]
    for number in value if isinstance(value, (list, tuple)) else [value]:
        for sign, bound in bounds:
            if bound is None:
                continue
            # Written so that NaN fails every bound.
            if not {">=": number >= bound, ">": number > bound, "<": number < bound}[sign]:
                needed = " and ".join(f"{s} {b:g}" for s, b in bounds if b is not None)
                raise MethodError(f"{key}={value!r}: must be {needed}")
        if isinstance(number, float) and not math.isfinite(number):
            raise MethodError(f"{key}={value!r}: must be a finite number")
