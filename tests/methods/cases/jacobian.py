"""The Jacobian methods."""

from __future__ import annotations

from mtrl_surgery.methods.dbmtl import DbmtlConfig
from mtrl_surgery.methods.graddrop import GraddropConfig
from mtrl_surgery.methods.moco import MocoConfig
from mtrl_surgery.methods.samgs import SamgsConfig
from tests.methods.cases.case import Case

EVEN = ((1.0, 0.0), (-0.8, 0.6))
CROWD = ((1.0, 0.0), (-1.0, 0.1), (-1.0, 0.2))
FIGHT = ((1.0, 0.0), (-2.0, 0.5))
TILTED = ((1.0, 0.0), (0.0, 1.0))
STRIPES = ((1.0,) * 8, (-1.0,) * 8)
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
    "graddrop": Case(
        GraddropConfig(),
        opposite_cancel=False,  # each coordinate keeps one of the two
        counterexamples={"non-conflicting": FIGHT, "linear": STRIPES, "scale-invariant": TILTED},
    ),
    "graddrop_leak": Case(
        GraddropConfig(leak=[0.3], reduction="mean"),
        opposite_cancel=False,
        traits=("equivariant", "homogeneous"),
        counterexamples={"non-conflicting": FIGHT, "scale-invariant": TILTED},
    ),
    "moco": Case(
        MocoConfig(),
        one_task=0.5,  # of a tracked gradient that starts at zero
        counterexamples={"non-conflicting": FIGHT, "homogeneous": FIGHT, "linear": EVEN, "scale-invariant": TILTED},
    ),
    "moco_libmtl": Case(
        MocoConfig(projection="softmax", normalize="loss", rho=0.1),
        one_task_sign=True,
        traits=("equivariant", "scale-invariant"),  # each gradient has the length of its loss
        counterexamples={"non-conflicting": CROWD, "homogeneous": EVEN, "linear": EVEN},
    ),
    "dbmtl": Case(
        DbmtlConfig(),
        one_task=0.1,  # 1 - beta of an average that starts at zero
        counterexamples={"non-conflicting": CROWD, "linear": EVEN},
    ),
    "dbmtl_sigma": Case(
        DbmtlConfig(beta=0.8, beta_sigma=0.5),
        one_task=0.2,
        traits=("equivariant", "homogeneous", "scale-invariant"),
        counterexamples={"non-conflicting": CROWD},
    ),
}
