"""The Jacobian methods."""

from __future__ import annotations

from mtrl_surgery.methods.options.jacobian import SamgsConfig
from tests.methods.cases.case import Case

EVEN = ((1.0, 0.0), (-0.8, 0.6))
SKEW = ((0.3, 0.8), (0.3, -1.3), (0.9, 0.4))

CASES: dict[str, Case] = {
    "samgs": Case(
        SamgsConfig(),
        signs_only=True,
        counterexamples={
            "non-conflicting": SKEW,
            "homogeneous": EVEN,
            "linear": EVEN,
            "scale-invariant": EVEN,
        },
    ),
    "samgs_momentum": Case(
        SamgsConfig(gamma=0.0),
        signs_only=True,
        traits=("equivariant",),
        counterexamples={"homogeneous": EVEN, "linear": EVEN, "scale-invariant": EVEN},
    ),
    "samgs_rescaled": Case(
        SamgsConfig(gamma=0.5, similarity="mean", rescale="equalised_norm"),
        signs_only=True,
        traits=("equivariant", "homogeneous"),
        counterexamples={"linear": EVEN, "scale-invariant": EVEN},
    ),
}
