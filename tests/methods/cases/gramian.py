"""The Gramian weightings."""

from __future__ import annotations

from mtrl_surgery.methods.options.gramian import CagradConfig, PcgradConfig
from tests.methods.cases.case import Case

TILTED = ((1.0, 0.0), (0.0, 1.0))
FIGHT = ((1.0, 0.0), (-2.0, 0.5))
THREE = ((-0.8, -1.3), (-0.2, 0.4), (1.1, 0.1))

CASES: dict[str, Case] = {
    "pcgrad": Case(
        PcgradConfig(),
        counterexamples={
            "non-conflicting": THREE,
            "equivariant": THREE,
            "scale-invariant": TILTED,
        },
    ),
    "cagrad": Case(
        CagradConfig(),
        one_task=1.4,  # the ball: g_0 + c g_0
        counterexamples={"non-conflicting": FIGHT, "linear": FIGHT, "scale-invariant": TILTED},
    ),
}
