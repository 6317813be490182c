"""One configuration of a method with what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS, Needs, Trait

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Case:
    """A configuration, where it departs from what most methods do, and its counter-examples.

    Attributes:
        config: The options.
        one_task: With K = 1 the direction is this times the gradient.
        one_task_sign: With K = 1 only the signs of the gradient's coordinates are kept.
        signs_only: Identical gradients keep their signs, not their direction.
        opposite_cancel: Whether two exactly opposite gradients give zero.
        nan_spreads: Whether a gradient that isn't finite spoils every coordinate of the direction.
        traits: What holds of this configuration; None: what the registry says of the method.
        counterexamples: For every trait that doesn't hold, a Jacobian [K, P] that shows it. A method that has seen
            `warm_up` calls before is what is looked at.
        warm_up: Calls on standard Jacobians before a trait is tested, for methods whose first call is special.
        rtol: Of the traits' comparisons.
        chaotic: Whether rounding grows from call to call until float32 and float64 have nothing in common.
        looks: Whether a call waits for the device.
        needs: What it asks for at every step; None: what the registry says of the method.
    """

    config: MethodConfig
    one_task: float = 1.0
    one_task_sign: bool = False
    signs_only: bool = False
    opposite_cancel: bool = True
    nan_spreads: bool = True
    traits: tuple[Trait, ...] | None = None
    counterexamples: Mapping[Trait, Rows] = field(default_factory=dict)
    warm_up: int = 0
    rtol: float = 1e-5
    chaotic: bool = False
    looks: bool = False
    needs: Needs | None = None

    @property
    def holds(self) -> tuple[Trait, ...]:
        """The traits that hold."""
        return METHODS[self.config.name].traits if self.traits is None else self.traits
