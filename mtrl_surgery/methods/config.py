"""The options of every method, one dataclass a method. Importing this file does not import torch."""

from __future__ import annotations

import dataclasses
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


@dataclass
class LsConfig(MethodConfig):
    """Linear scalarisation: equal weights."""

    name: str = "ls"
    reduction: str = option("mean", "weights 1/K (mean) or 1 (sum, the papers' LS)", choices=("mean", "sum"))


@dataclass
class SamgsConfig(MethodConfig):
    """SAM-GS (arXiv 2506.06130); the defaults are the paper's for RL."""

    name: str = "samgs"
    similarity: str = option(
        "min",
        "magnitude similarity: of the least alike pair (RL) or the mean (vision)",
        choices=("min", "mean"),
    )
    beta1: float = option(0.9, "decay of each task's momentum", at_least=0, below=1)
    beta2: float = option(0.99, "decay of the dissimilarity's second moment", at_least=0, below=1)
    gamma: float = option(0.9, "norms are equalised where the similarity is below this", at_least=0)
    eps: float = option(1e-8, "keeps the second moment above zero", above=0)
    rescale: str = option(
        "none",
        "the momentum branch's length: as in the paper, or that of the equalised direction",
        choices=("none", "equalised_norm"),
    )


@dataclass
class PcgradConfig(MethodConfig):
    """PCGrad (arXiv 2001.06782)."""

    name: str = "pcgrad"
    reduction: str = option("sum", "sum (paper) or mean of the projected gradients", choices=("sum", "mean"))


@dataclass
class CagradConfig(MethodConfig):
    """CAGrad (arXiv 2110.14048)."""

    name: str = "cagrad"
    c: float = option(0.4, "radius around the mean gradient, as a share of its norm", at_least=0, below=1)
    rescale: int = option(0, "divide by 1 (paper), 1+c^2 (official code) or 1+c (its toy)", choices=(0, 1, 2))
    reduction: str = option("mean", "the paper's scale (mean), or K times it (sum)", choices=("mean", "sum"))


@dataclass
class FamoConfig(MethodConfig):
    """FAMO (arXiv 2306.03792)."""

    name: str = "famo"
    w_lr: float = option(0.025, "Adam's step size on the task logits", above=0)
    gamma: float = option(1e-3, "weight decay of the task logits", at_least=0)
    min_losses: list[float] = option([0.0], "lower bounds of the losses, one for all or one a task")  # noqa: RUF009
    eps: float = option(1e-8, "keeps the logarithm of a loss at its bound finite", above=0)
