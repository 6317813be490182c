"""The loss weightings and GradNorm.

Their weights do not move with the Jacobian they are applied to, so every one of them is linear in it.
"""

from __future__ import annotations

import math

from mtrl_surgery.methods.dwa import DwaConfig
from mtrl_surgery.methods.famo import FamoConfig
from mtrl_surgery.methods.gradnorm import GradnormConfig
from mtrl_surgery.methods.ls import LsConfig
from mtrl_surgery.methods.registry import Trait
from mtrl_surgery.methods.rlw import RlwConfig
from mtrl_surgery.methods.scaleinvls import ScaleinvlsConfig
from mtrl_surgery.methods.stl import StlConfig
from mtrl_surgery.methods.uw import UwConfig
from tests.methods.cases.case import Case, Rows

FIGHT = ((1.0, 0.0), (-2.0, 0.5))
TILTED = ((1.0, 0.0), (0.0, 1.0))
USUAL: dict[Trait, Rows] = {"non-conflicting": FIGHT, "scale-invariant": TILTED}
RANDOM: dict[Trait, Rows] = {**USUAL, "equivariant": TILTED}

CASES: dict[str, Case] = {
    "ls": Case(LsConfig(), counterexamples=USUAL),
    "famo": Case(FamoConfig(), counterexamples=USUAL),
    "famo_every": Case(FamoConfig(compare_every=1), counterexamples=USUAL),
    "famo_next": Case(FamoConfig(compare_with="next_batch"), counterexamples=USUAL),
    "scaleinvls": Case(ScaleinvlsConfig(), counterexamples=USUAL),
    "uw": Case(UwConfig(), one_task=0.5, counterexamples=USUAL),
    "uw_classes": Case(UwConfig(kinds=["classification"], init=-0.5), one_task=math.exp(0.5), counterexamples=USUAL),
    "dwa": Case(DwaConfig(), counterexamples=USUAL),
    "dwa_epochs": Case(DwaConfig(epoch_updates=2, reduction="mean"), counterexamples=USUAL),
    "dwa_window": Case(DwaConfig(window=3), counterexamples=USUAL),
    "rlw": Case(RlwConfig(), opposite_cancel=False, counterexamples=RANDOM),
    "rlw_dirichlet": Case(RlwConfig(distribution="dirichlet"), opposite_cancel=False, counterexamples=RANDOM),
    "stl": Case(StlConfig(), opposite_cancel=False, counterexamples={"non-conflicting": FIGHT, "equivariant": TILTED}),
    "gradnorm": Case(GradnormConfig(), counterexamples=USUAL),
}
