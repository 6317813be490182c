"""MoCo against Alg. 1 written out, and its defined answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.methods import _common
from mtrl_surgery.methods.mgda import MgdaConfig
from mtrl_surgery.methods.moco import MocoConfig, project_onto_simplex
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import direction, jacobian


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """By bisection for the shift at which what stays above zero adds up to 1."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.maximum(point - shift, 0).sum() > 1 else (low, shift)
    nearest: np.ndarray = np.maximum(point - high, 0)
    return nearest


class Literal:
    """Alg. 1, one task and one weight at a time."""

    def __init__(self, tasks: int, parameters: int, config: MocoConfig) -> None:
        self.config, self.t = config, 0
        self.y = [np.zeros(parameters) for _ in range(tasks)]
        self.w = np.full(tasks, 1 / tasks)

    def __call__(self, gradients: np.ndarray, losses: np.ndarray) -> np.ndarray:
        cfg, tasks = self.config, len(gradients)
        self.t += 1
        if cfg.normalize == "loss":
            gradients = np.stack([loss * g / np.linalg.norm(g) for g, loss in zip(gradients, losses, strict=True)])
        beta, gamma = cfg.beta / self.t**cfg.beta_sigma, cfg.gamma / self.t**cfg.gamma_sigma
        self.y = [y - beta * (y - g) for y, g in zip(self.y, gradients, strict=True)]
        combined = sum(self.w[j] * self.y[j] for j in range(tasks))
        slope = np.array([self.y[k] @ combined + cfg.rho * self.w[k] for k in range(tasks)])
        moved = self.w - gamma * slope
        exp = np.exp(moved - moved.max())
        self.w = exp / exp.sum() if cfg.projection == "softmax" else nearest_on_simplex(moved)
        result: np.ndarray = sum(self.w[j] * self.y[j] for j in range(tasks))
        return result


@pytest.mark.parametrize(
    "config",
    [
        MocoConfig(),
        MocoConfig(beta=0.9, beta_sigma=0.2, gamma=0.3, gamma_sigma=0.0, rho=0.4),
        MocoConfig(projection="softmax", normalize="loss"),
        MocoConfig(projection="softmax", rho=0.1),
    ],
    ids=["paper", "options", "libmtl", "softmax"],
)
def test_200_steps_equal_the_algorithm(config: MocoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: 40)  # 10 columns at a time, the last part is short
    method, literal = make_method(config, 4, 0), Literal(4, 27, config)
    rng = np.random.default_rng(0)
    corners = 0
    for _ in range(200):
        gradients = rng.standard_normal((4, 27)) * rng.uniform(0.2, 1.8, (4, 1)) * [[4], [1], [1], [1]]
        losses = rng.random(4) + 0.1
        expected = literal(gradients, losses)
        np.testing.assert_allclose(direction(method, gradients, losses).numpy(), expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), literal.w, rtol=1e-9, atol=1e-12)
        corners += int(literal.w.min() == 0)
    assert config.projection == "softmax" or corners > 5, "the projection must cut for this to be a test"


def test_first_step_in_closed_form() -> None:
    """With y = g / 2, the weights lose 0.1 * 0.5 * (4, 1), and the projection gives each 0.125 back."""
    gradients = np.array([[4.0, 0.0], [0.0, 2.0]])
    method = make_method(MocoConfig(), 2, 0)
    result = direction(method, gradients)
    np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), [0.425, 0.575])
    np.testing.assert_allclose(result.numpy(), [0.425 * 2, 0.575])


def test_steady_gradients_end_at_the_least_combination() -> None:
    matrix = jacobian("conflicting", 4, 10, 2)
    method = make_method(MocoConfig(gamma_sigma=0.0), 4, 0)
    for _ in range(1000):
        result = direction(method, matrix)
    least = direction(make_method(MgdaConfig(), 4, 0), matrix)
    torch.testing.assert_close(result, least, rtol=1e-3, atol=1e-3 * float(least.norm()))


def test_noise_averages_out() -> None:
    """What MoCo is for: with noisy gradients it is nearer to the true least combination than single batches are."""
    rng = np.random.default_rng(0)
    matrix = jacobian("conflicting", 3, 8, 1)
    true = direction(make_method(MgdaConfig(), 3, 0), matrix).numpy()
    method, single = make_method(MocoConfig(gamma_sigma=0.0, gamma=0.03), 3, 0), make_method(MgdaConfig(), 3, 0)
    ours, theirs = [], []
    for step in range(600):
        noisy = matrix + rng.standard_normal(matrix.shape)
        tracked, batch = direction(method, noisy).numpy(), direction(single, noisy).numpy()
        if step >= 300:
            ours.append(np.linalg.norm(tracked - true))
            theirs.append(np.linalg.norm(batch - true))
    assert np.mean(ours) < 0.5 * np.mean(theirs)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
def test_the_projection_is_the_nearest_point(values: list[float]) -> None:
    found = project_onto_simplex(torch.tensor(values, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, nearest_on_simplex(np.array(values)), atol=1e-9)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-9)


def test_a_point_of_the_simplex_stays() -> None:
    point = torch.tensor([0.5, 0.2, 0.3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(project_onto_simplex(point), point)


def test_one_task_is_the_tracked_gradient() -> None:
    method, y = make_method(MocoConfig(beta_sigma=0.0), 1, 0), np.zeros(6)
    for step in range(5):
        gradient = jacobian("gaussian", 1, 6, step)
        y = y / 2 + gradient[0] / 2
        np.testing.assert_allclose(direction(method, gradient).numpy(), y)
    assert method.diagnostics()["weights_K"].tolist() == [1.0]


@pytest.mark.parametrize("normalize", ["none", "loss"])
def test_a_zero_gradient_pulls_its_average_to_zero(normalize: str) -> None:
    method = make_method(MocoConfig(normalize=normalize, beta_sigma=0.0), 3, 0)
    matrix = jacobian("gaussian", 3, 6, 0)
    direction(method, matrix)
    before = method.state_dict()["tracked_KP"].clone()
    matrix[1] = 0
    assert direction(method, matrix).isfinite().all()
    torch.testing.assert_close(method.state_dict()["tracked_KP"][1], before[1] / 2)


def test_identical_gradients_have_equal_weights_and_opposite_ones_cancel() -> None:
    gradient = jacobian("gaussian", 1, 6, 0)[0]
    method = make_method(MocoConfig(), 3, 0)
    torch.testing.assert_close(direction(method, np.stack([gradient] * 3)), torch.as_tensor(gradient / 2))
    torch.testing.assert_close(method.diagnostics()["weights_K"], torch.full((3,), 1 / 3, dtype=torch.float64))
    opposite = direction(make_method(MocoConfig(), 2, 0), np.stack([gradient, -gradient]))
    torch.testing.assert_close(opposite, torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("projection", ["simplex", "softmax"])
def test_a_nan_stays(projection: str) -> None:
    method = make_method(MocoConfig(projection=projection), 3, 0)
    matrix = jacobian("gaussian", 3, 6, 0)
    matrix[1, 2] = np.nan
    assert direction(method, matrix).isnan().all()
    assert direction(method, jacobian("gaussian", 3, 6, 1)).isnan().all()
    assert method.state_dict()["weights_K"].isnan().all()


def test_state_is_what_it_tracks_the_weights_and_a_counter() -> None:
    method = make_method(MocoConfig(), 3, 0)
    assert {name: tuple(t.shape) for name, t in method.state_dict().items()} == {"weights_K": (3,), "steps": ()}
    direction(method, jacobian("gaussian", 3, 8, 0), dtype=torch.float32)
    state = method.state_dict()
    assert state["tracked_KP"].shape == (3, 8)
    assert state["tracked_KP"].dtype == torch.float32
    assert state["steps"] == 1
