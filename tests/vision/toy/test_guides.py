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

OPTIONS: Sequence[tuple[str, dict[str, Any]]] = (
    ("samgs", {"similarity": "min", "gamma": 0.9, "rescale": "equalised_norm"}),
    ("famo", {"compare_with": "next_batch"}),
    ("famo", {"compare_every": 3}),
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
        weights_SK, length_SK = np.abs(wanted[1]), np.linalg.norm(jacobian_SKP, axis=2)
        # Where gradients are opposite, a direction is what rounding leaves of them: their lengths are its scale.
        # Nash-MTL's weights grow to its limit there, and the last digit of an angle decides them.
        cosine_S = (jacobian_SKP[:, 0] * jacobian_SKP[:, 1]).sum(axis=1) / np.maximum(length_SK.prod(axis=1), 1e-300)
        blur_S = np.maximum(1, 4e-7 / np.maximum(1 + cosine_S, 1e-12))
        scales = (weights_SK * length_SK).max(axis=1) * blur_S, weights_SK.max(axis=1) * blur_S
        for found, right, scale_S in zip(answer, wanted, scales, strict=True):
            found, right = found[going_S], right[going_S]
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(right))
            scale_S1 = np.maximum(scale_S[going_S], np.abs(right).max(axis=1, initial=1e-300))[:, None]
            self.worst = max(self.worst, np.nanmax(np.abs(found - right) / scale_S1, initial=0.0))
        self.asked += int(going_S.sum())
        return answer

    def observe(self, losses_SK: Array, going_S: Going) -> None:
        self.guide.observe(losses_SK, going_S)
        self.other.observe(losses_SK.copy(), going_S)


def checked(config: MethodConfig, steps: int, problem: str = "toy1o", starts: Sequence[int] = (0, 2, 5)) -> Checked:
    settings = ToySettings(problem=problem)
    guide = Checked(guide_for(config, starts, 3), OneByOne(methods_for(config, starts, 3)))
    points = np.array(settings.points)[list(starts)]
    # Thirty times the papers' step size: into the valley, along it and over the axis.
    descend(Problem.of(settings), points, guide, steps=steps, lr=3e-2, max_norm=1.0)
    return guide


@pytest.mark.parametrize("name", OURS)
def test_all_starts_at_once_are_the_methods_themselves(name: str) -> None:
    """To the last digits, with the same random numbers, at every step of every start."""
    guide = checked(published(METHODS[name].config(), ToySettings()), 220)
    assert guide.worst <= 1e-9
    assert guide.asked > 0
    assert isinstance(guide.guide, SideBySide if name == "upgrad" else Together)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_with_other_options_too(name: str, options: dict[str, Any]) -> None:
    assert checked(replace(METHODS[name].config(), **options), 50).worst <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["toy1o", "toy2o", "nashmtl", "cagrad", "aligned"])
@pytest.mark.parametrize("name", OURS)
def test_from_all_starts_of_all_problems(name: str, problem: str) -> None:
    settings = ToySettings(problem=problem)
    starts = range(len(settings.points))
    assert checked(published(METHODS[name].config(), settings), 1000, problem, starts).worst <= 1e-9


def test_foreign_methods_are_asked_one_by_one() -> None:
    config = METHODS["gradvac"].config()
    assert isinstance(guide_for(config, [0, 1], 0), OneByOne)
    assert checked(config, 5).worst == 0
