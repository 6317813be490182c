"""One call for all starts says what the library's methods say, each asked for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments_vision.toy.config import OURS, ToySettings, published
from experiments_vision.toy.descent import descend
from experiments_vision.toy.guides import Going, Guide, OneByOne, SideBySide, Together, guide_for, methods_for
from experiments_vision.toy.problems import Array, Problem
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS

STEPS = 250
OPTIONS: Sequence[tuple[str, dict[str, Any]]] = (
    *((name, {}) for name in OURS),
    ("samgs", {"similarity": "min", "gamma": 0.9, "rescale": "equalised_norm"}),
    ("famo", {"compare_with": "next_batch"}),
    ("cagrad", {"c": 0.0, "rescale": 1, "reduction": "sum"}),
    ("nashmtl", {"update_every": 3}),
    ("mgda", {"normalization": "loss+", "reduction": "sum"}),
    ("alignedmtl", {"scale_mode": "median", "rank_of": "gramian", "preference": [1.0, 3.0]}),
    ("alignedmtl", {"scale_mode": "rmse"}),
    ("upgrad", {"preference": [1.0, 3.0]}),
    ("graddrop", {"leak": [0.2, 0.5], "reduction": "mean"}),
    ("moco", {"projection": "softmax", "normalize": "loss"}),
    ("dbmtl", {"beta_sigma": 0.5}),
    ("dwa", {"window": 4}),
    ("dwa", {"epoch_updates": 7}),
    ("rlw", {"distribution": "uniform"}),
    ("rlw", {"distribution": "dirichlet"}),
    ("gradnorm", {"initial_losses": [3.0]}),
    ("pcgrad", {"reduction": "mean"}),
)


class Checked(Guide):
    """Goes where one guide says, and looks what another would have said, who is shown the same."""

    def __init__(self, guide: Guide, other: Guide) -> None:
        self.guide, self.other, self.observes = guide, other, guide.observes
        self.worst, self.asked = 0.0, 0

    def ask(self, losses_SK: Array, jacobian_SKP: Array, going_S: Going) -> tuple[Array, Array]:
        answer = self.guide.ask(losses_SK, jacobian_SKP, going_S)
        wanted = self.other.ask(losses_SK.copy(), jacobian_SKP.copy(), going_S)
        for found, right in zip(answer, wanted, strict=True):
            found, right = found[going_S], right[going_S]
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(right))
            size = np.abs(right).max(axis=1, keepdims=True, initial=1e-300)
            self.worst = max(self.worst, np.nanmax(np.abs(found - right) / size, initial=0.0))
        self.asked += int(going_S.sum())
        return answer

    def observe(self, losses_SK: Array, going_S: Going) -> None:
        self.guide.observe(losses_SK, going_S)
        self.other.observe(losses_SK.copy(), going_S)


def checked(config: MethodConfig, problem: str, steps: int) -> Checked:
    settings = ToySettings(problem=problem)
    starts = range(len(settings.points))
    guide = Checked(guide_for(config, starts, 3), OneByOne(methods_for(config, starts, 3)))
    # Five times the papers' step size: through the valley and over the axis within the steps.
    descend(Problem.of(settings), np.array(settings.points), guide, steps=steps, lr=2e-2, max_norm=1.0)
    return guide


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda value: str(value))
def test_all_starts_at_once_are_the_methods_themselves(name: str, options: dict[str, Any]) -> None:
    """To the last digits, with the same random numbers, at every step of every start."""
    config = replace(published(METHODS[name].config(), ToySettings()), **options)
    guide = checked(config, "toy1o", STEPS)
    assert guide.worst <= 1e-9
    assert guide.asked > 0
    assert isinstance(guide.guide, SideBySide if name == "upgrad" else Together)


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["toy2o", "nashmtl", "aligned"])
@pytest.mark.parametrize("name", OURS)
def test_the_same_on_the_other_problems(name: str, problem: str) -> None:
    assert checked(published(METHODS[name].config(), ToySettings(problem=problem)), problem, 1000).worst <= 1e-9


def test_foreign_methods_are_asked_one_by_one() -> None:
    config = METHODS["gradvac"].config()
    assert isinstance(guide_for(config, [0, 1], 0), OneByOne)
    assert checked(config, "toy1o", 5).worst == 0
