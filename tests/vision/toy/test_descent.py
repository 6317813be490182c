"""The descent: every start by itself, the optimizer, the clip, and what the papers say of the outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from experiments_vision.toy.config import OURS, ToySettings, published
from experiments_vision.toy.descent import Descent, descend, method_of
from experiments_vision.toy.measures import arrivals, curves, targets_of
from experiments_vision.toy.problems import Array, Problem
from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS

SETTINGS = ToySettings()
PROBLEM = Problem.of(SETTINGS)
STARTS = np.array(SETTINGS.points)


def go(
    config: MethodConfig,
    steps: int,
    starts: list[int] | None = None,
    lr: float = 1e-2,
    max_norm: float | None = None,
) -> Descent:
    chosen = range(len(STARTS)) if starts is None else starts
    return Descent.of(
        [
            descend(PROBLEM, STARTS[start], method_of(config, start, 5), steps=steps, lr=lr, max_norm=max_norm)
            for start in chosen
        ]
    )


@pytest.mark.parametrize("name", [*OURS, "gradvac"])
def test_mirrored_starts_go_mirrored_ways(name: str) -> None:
    """The problem is its own mirror image, with the tasks exchanged; TorchJD's methods descend too."""
    config = published(METHODS[name].config(), SETTINGS)
    found = go(config, 40, [1, 3], max_norm=1.0)
    assert np.isfinite(found.theta_TSP).all()
    assert np.abs(found.theta_TSP[-1] - STARTS[[1, 3]]).max() > 0.1
    if name not in ("graddrop", "moco", "rlw", "stl"):  # these draw, or prefer a task
        np.testing.assert_allclose(found.theta_TSP[:, 0], found.theta_TSP[:, 1] * (-1, 1), rtol=1e-9)


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_equals_torchs_adam_on_the_mean_loss(max_norm: float | None) -> None:
    """LS with torch's autograd, clip and Adam."""
    theta_P = torch.tensor(STARTS[5], requires_grad=True)
    adam = torch.optim.Adam([theta_P], lr=1e-2)
    wanted = [theta_P.detach().clone()]
    for _ in range(80):
        adam.zero_grad()
        PROBLEM.losses(theta_P).mean().backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_([theta_P], max_norm)
        adam.step()
        wanted.append(theta_P.detach().clone())
    found = go(METHODS["ls"].config(), 80, [5], max_norm=max_norm)
    np.testing.assert_allclose(found.theta_TSP[:, 0], torch.stack(wanted), rtol=1e-9)


def test_the_clip_is_every_methods() -> None:
    """Adam's first step hides lengths, so a method's 30th step tells whether its directions were clipped."""
    for name in ("ls", "mgda", "samgs"):
        plain, clipped = (go(METHODS[name].config(), 60, max_norm=norm).theta_TSP[-1] for norm in (None, 0.01))
        assert np.abs(plain - clipped).max() > 1e-3, name


def test_famo_sees_the_losses_after_the_step() -> None:
    config = published(METHODS["famo"].config(), SETTINGS)
    found = descend(PROBLEM, STARTS[1], method_of(config, 1, 0), steps=3, lr=1e-2)
    again: Any = method_of(config, 1, 0)
    for step in range(3):
        before_K, after_K = (
            torch.from_numpy(PROBLEM.losses_and_jacobian(found.theta_TP[at])[0]) for at in (step, step + 1)
        )
        weights_K = again.weights(before_K)
        np.testing.assert_allclose(found.weights_TK[step], weights_K, rtol=1e-14)
        again.observe(after_K)
    assert again.logits_K.abs().max() > 0


def test_a_start_without_a_direction_stops_where_it_is() -> None:
    """SI has no logarithm of the negative losses below the axis; the other starts go on."""
    found = go(METHODS["scaleinvls"].config(), 500, lr=2e-2)
    assert found.stopped_S[5:] == (0, 0)
    np.testing.assert_array_equal(found.theta_TSP[-1, 5:], STARTS[5:])
    moved = [start for start, stop in enumerate(found.stopped_S) if stop != 0]
    assert moved == [0, 1, 2, 3, 4]
    assert (np.abs(found.theta_TSP[-1, moved] - STARTS[moved]).max(axis=1) > 1).all()
    assert np.isfinite(found.theta_TSP).all()
    for start, stop in enumerate(found.stopped_S):
        assert np.isnan(found.weights_TSK[max(stop, 0) + 1 :, start]).all() == (stop >= 0)
        if stop >= 0:
            assert (found.theta_TSP[stop:, start] == found.theta_TSP[stop, start]).all()


def test_streams_differ_by_start_and_seed() -> None:
    config = METHODS["rlw"].config()
    methods: list[Any] = [method_of(config, start, seed) for start in (0, 1) for seed in (0, 1)]
    assert len({float(method.uniform((1,), torch.device("cpu"))) for method in methods}) == 4


def test_arrival_is_the_step_from_which_it_stays() -> None:
    targets = targets_of(PROBLEM)
    optimum_P = targets.optima_NP[0]
    offsets: Array = np.array([[5.0, 0.0], [0.05, 0.0], [0.5, 0.0], [0.05, 0.0], [0.0, 0.02]])
    descent = Descent((optimum_P + offsets)[:, None], np.zeros((4, 1, 2)), (-1,))
    (found,) = arrivals(PROBLEM, descent, targets, within=0.1)
    assert found.optimum_step == 3
    assert found.pareto_step == 0
    assert found.from_optimum == pytest.approx(0.02)
    (never,) = arrivals(PROBLEM, descent, targets, within=0.01)
    assert never.optimum_step is None


def test_curves_are_the_librarys_measures() -> None:
    descent = go(METHODS["ls"].config(), 60)
    found = curves(PROBLEM, descent, looks=5)
    assert found["step"].tolist() == [0, 14, 29, 44, 59]
    jacobian_KP = torch.from_numpy(PROBLEM.losses_and_jacobian(descent.theta_TSP[29, 4])[1])
    wanted = conflict_diagnostics(jacobian_KP @ jacobian_KP.T)
    assert found["cosine"][2, 4] == pytest.approx(float(wanted["mean_cosine"]))
    assert found["magnitude_similarity"][2, 4] == pytest.approx(float(wanted["magnitude_similarity"]))
    # The second derivative of the mean loss along its gradient, halfway through the step.
    middle_P = torch.from_numpy(0.5 * (descent.theta_TSP[29, 4] + descent.theta_TSP[30, 4]))
    hessian_PP = torch.func.hessian(lambda theta_P: PROBLEM.losses(theta_P).mean())(middle_P)
    unit_P = jacobian_KP.mean(dim=0) / jacobian_KP.mean(dim=0).norm()
    assert found["curvature"][2, 4] == pytest.approx(float(unit_P @ hessian_PP @ unit_P), rel=1e-4)


def test_ls_is_stuck_where_its_paper_says() -> None:
    """From above it ends in the valley of one task; from below it reaches the minimum. Five times the step size."""
    found = go(METHODS["ls"].config(), 4_000, [1, 3, 5, 6], lr=5e-3)
    ends = arrivals(PROBLEM, found, targets_of(PROBLEM), within=0.1)
    assert [end.optimum_step is not None for end in ends] == [False, False, True, True]
    assert min(end.from_optimum for end in ends[:2]) > 5
