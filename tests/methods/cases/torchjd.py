"""The methods that TorchJD brings."""

from __future__ import annotations

from mtrl_surgery.methods.torchjd.options import (
    ConfigConfig,
    CrmogmConfig,
    DualprojConfig,
    ExcessmtlConfig,
    FairgradConfig,
    GlsConfig,
    GradvacConfig,
    ImtlLConfig,
    PcdConfig,
    SdmgradConfig,
    StchConfig,
    TorchjdConfig,
)
from tests.methods.cases.case import Case
from tests.methods.cases.gramian import ONE_UNIT

TILTED = ((1.0, 0.0), (0.0, 1.0))
FIGHT = ((1.0, 0.0), (-2.0, 0.5))
SKEW = ((0.3, 0.8), (0.3, -1.3), (0.9, 0.4))
TIED = ((-0.8, -1.3), (-0.2, 0.4), (1.1, 0.1))
"""A positive combination is zero: nothing helps all three."""
FAINT = ((1e-4, 0.0), (-0.8e-4, 0.6e-4))
"""So small that a constant added to a denominator counts."""
FAINT_CROWD = (*FAINT, (-0.6e-4, -0.8e-4))
NEARLY_NOTHING = ((3e-3, 0.0), (-6e-3, 1.5e-3))
"""Of a trace below DualProj's `norm_eps`, and above it when doubled."""
OPPOSED = ((0.31, 0.17, 0.53), (-0.93, -0.51, -1.59))
"""Of the direction between them only rounding is left, which ConFIG lengthens to a unit."""

CASES: dict[str, Case] = {
    "gradvac": Case(
        GradvacConfig(),
        counterexamples={
            "non-conflicting": TIED,
            "equivariant": SKEW,
            "homogeneous": FAINT,
            "linear": FAINT_CROWD,
            "scale-invariant": TILTED,
        },
        looks=True,
    ),
    "dualproj": Case(
        DualprojConfig(),
        counterexamples={
            "non-conflicting": ((2.0, -2.6), (0.4, -0.6), (-0.5, -0.2)),  # by `reg_eps`
            "homogeneous": NEARLY_NOTHING,
            "linear": SKEW,
            "scale-invariant": TILTED,
        },
        looks=True,
    ),
    "fairgrad": Case(
        FairgradConfig(),
        one_task=ONE_UNIT,
        counterexamples={
            "non-conflicting": TIED,
            "equivariant": TIED,  # where there is no fair direction, the solver stops somewhere
            "homogeneous": TILTED,
            "linear": TILTED,
            "scale-invariant": ((0.5, 0.2), (0.3, 0.9), (-0.5, -0.4)),
        },
        looks=True,
    ),
    "config": Case(
        ConfigConfig(),
        counterexamples={
            "non-conflicting": TIED,
            "linear": OPPOSED,
            "scale-invariant": ((0.4, 0.0), (-0.5, -2.3), (0.0, 0.9)),  # its sign is that of the sum of the lengths
        },
        looks=True,
    ),
    "sdmgrad": Case(
        SdmgradConfig(),
        counterexamples={
            "non-conflicting": SKEW,
            "homogeneous": ((-1.6, -0.3), (0.7, 0.7)),
            "linear": SKEW,
            "scale-invariant": TILTED,
        },
        looks=True,
        chaotic=True,  # its steps are so long that the weights jump from corner to corner
    ),
    "sdmgrad_short_steps": Case(
        SdmgradConfig(lr=0.1), traits=("equivariant",), counterexamples={"linear": SKEW}, looks=True
    ),
    "excessmtl": Case(
        ExcessmtlConfig(),
        counterexamples={
            "non-conflicting": SKEW,
            "homogeneous": ((1.0, 0.0), (0.0, 2.0)),
            "linear": TILTED,
            "scale-invariant": TILTED,
        },
        looks=True,
    ),
    "crmogm": Case(
        CrmogmConfig(),
        counterexamples={
            "non-conflicting": TIED,  # by the precision of TorchJD's solver
            "linear": SKEW,
            "scale-invariant": SKEW,
        },
        looks=True,
    ),
    "pcd": Case(
        PcdConfig(),
        opposite_cancel=False,  # the first task must not hinder the second
        counterexamples={
            "non-conflicting": ((-0.7, -0.2), (1.7, 0.7)),
            "equivariant": SKEW,
            "homogeneous": ((1.0, 0.0), (-0.8e-4, 0.6e-4)),
            "linear": FAINT,
            "scale-invariant": FAINT,
        },
        looks=True,
    ),
    "stch": Case(StchConfig(), counterexamples={"non-conflicting": FIGHT, "scale-invariant": TILTED}),
    "gls": Case(GlsConfig(), counterexamples={"non-conflicting": FIGHT, "scale-invariant": TILTED}, looks=True),
    "imtl_l": Case(ImtlLConfig(), counterexamples={"non-conflicting": FIGHT, "scale-invariant": TILTED}),
    "torchjd": Case(TorchjdConfig(), counterexamples={"non-conflicting": FIGHT, "scale-invariant": TILTED}, looks=True),
    "torchjd_random": Case(
        TorchjdConfig(target="torchjd.aggregation.Random"),
        opposite_cancel=False,
        traits=("homogeneous", "linear"),
        counterexamples={"equivariant": TILTED},
        looks=True,
    ),
    "torchjd_uw": Case(TorchjdConfig(target="torchjd.scalarization.UW"), one_task=0.5, needs="losses"),
}
