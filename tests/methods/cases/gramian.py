"""The Gramian weightings."""

from __future__ import annotations

import numpy as np

from mtrl_surgery.methods.alignedmtl import AlignedmtlConfig
from mtrl_surgery.methods.cagrad import CagradConfig
from mtrl_surgery.methods.imtl import ImtlConfig
from mtrl_surgery.methods.mgda import MgdaConfig
from mtrl_surgery.methods.nashmtl import NashmtlConfig
from mtrl_surgery.methods.pcgrad import PcgradConfig
from mtrl_surgery.methods.upgrad import UpgradConfig
from tests.methods.cases.case import Case
from tests.methods.jacobians import jacobian

TILTED = ((1.0, 0.0), (0.0, 1.0))
FIGHT = ((1.0, 0.0), (-2.0, 0.5))
THREE = ((-0.8, -1.3), (-0.2, 0.4), (1.1, 0.1))

UNEVEN = ((1.0, 0.0), (-8.0, 1.0))
FLAT = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (1.0, 0.0, 0.1))
BETWEEN = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.2, 0.0, 0.02))
ONE_UNIT = 1 / float(np.linalg.norm(jacobian("gaussian", 1, 6, 0)))
"""What makes the one gradient of `test_one_task_is_scaled_only` a unit vector."""

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
    "nashmtl": Case(
        NashmtlConfig(),
        one_task=ONE_UNIT,
        counterexamples={"homogeneous": TILTED, "linear": TILTED},
    ),
    "nashmtl_every_third": Case(
        NashmtlConfig(update_every=3),
        one_task=ONE_UNIT,
        traits=("non-conflicting", "equivariant", "scale-invariant"),
    ),
    "mgda": Case(MgdaConfig(), counterexamples={"linear": TILTED, "scale-invariant": TILTED}),
    "mgda_l2": Case(
        MgdaConfig(normalization="l2", reduction="sum"),
        # Of dependent gradients several weightings are shortest once normalised, and they differ on the raw gradients.
        traits=("homogeneous",),
        counterexamples={"non-conflicting": FIGHT},
    ),
    "mgda_loss": Case(
        MgdaConfig(normalization="loss"),
        traits=("homogeneous",),
        counterexamples={"linear": TILTED},
    ),
    "mgda_loss+": Case(MgdaConfig(normalization="loss+"), traits=("homogeneous",)),
    "imtl": Case(
        ImtlConfig(),
        # Between two gradients a third, so short that its negative weight makes the sum negative.
        counterexamples={"non-conflicting": BETWEEN, "linear": TILTED, "scale-invariant": FLAT},
    ),
    "alignedmtl": Case(
        AlignedmtlConfig(),
        counterexamples={"non-conflicting": UNEVEN, "linear": FIGHT, "scale-invariant": FIGHT},
    ),
    "alignedmtl_median": Case(AlignedmtlConfig(scale_mode="median", reduction="mean")),
    "alignedmtl_rmse": Case(AlignedmtlConfig(scale_mode="rmse")),
    "alignedmtl_official": Case(AlignedmtlConfig(rank_of="gramian")),
    "upgrad": Case(UpgradConfig(), counterexamples={"scale-invariant": TILTED}),
}
