"""DB-MTL against Alg. 1 written out, and its defined answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrl_surgery.methods import _common
from mtrl_surgery.methods.dbmtl import DbmtlConfig
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import direction, jacobian


class Literal:
    """Alg. 1 on the gradients of the log-losses, one task at a time."""

    def __init__(self, tasks: int, parameters: int, config: DbmtlConfig) -> None:
        self.config, self.t = config, 0
        self.y = [np.zeros(parameters) for _ in range(tasks)]

    def __call__(self, gradients: np.ndarray, losses: np.ndarray) -> np.ndarray:
        cfg = self.config
        self.t += 1
        beta = cfg.beta / self.t**cfg.beta_sigma
        logs = [g / max(abs(loss), cfg.eps) for g, loss in zip(gradients, losses, strict=True)]
        self.y = [beta * y + (1 - beta) * g for y, g in zip(self.y, logs, strict=True)]
        norms = [np.linalg.norm(y) for y in self.y]
        result: np.ndarray = np.stack([max(norms) / norm * y for norm, y in zip(norms, self.y, strict=True)]).sum(
            axis=0
        )
        return result


@pytest.mark.parametrize("config", [DbmtlConfig(), DbmtlConfig(beta=0.8, beta_sigma=0.5), DbmtlConfig(beta=0.0)])
def test_200_steps_equal_the_algorithm(config: DbmtlConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: 40)  # 10 columns at a time, the last part is short
    method, literal = make_method(config, 4, 0), Literal(4, 27, config)
    rng = np.random.default_rng(0)
    for _ in range(200):
        gradients = rng.standard_normal((4, 27)) * 10 ** rng.uniform(-2, 2, (4, 1))
        losses = 10 ** rng.uniform(-2, 2, 4)
        expected = literal(gradients, losses)
        result = direction(method, gradients, losses).numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())
        norms = np.array([np.linalg.norm(y) for y in literal.y])
        np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), norms.max() / norms, rtol=1e-9)


def test_the_gradients_are_those_of_the_log_losses() -> None:
    """By autograd, of losses at a point; two steps, so that the average has moved."""
    point = torch.tensor([0.7, -1.3, 0.4], dtype=torch.float64, requires_grad=True)
    method, average = make_method(DbmtlConfig(), 2, 0), torch.zeros(2, 3, dtype=torch.float64)
    for shift in (0.0, 0.9):
        losses = [(point - shift).square().sum(), 100 * (point + shift).exp().sum()]
        rows = [torch.autograd.grad(loss, point, retain_graph=True)[0] for loss in losses]
        logs = [torch.autograd.grad(loss.log(), point, retain_graph=True)[0] for loss in losses]
        average = 0.9 * average + 0.1 * torch.stack(logs)
        norm = average.norm(dim=1, keepdim=True)
        result = direction(method, torch.stack(rows), torch.stack(losses).detach())
        torch.testing.assert_close(result, (norm.max() * average / norm).sum(dim=0))


def test_first_step_in_closed_form() -> None:
    """The log-losses have the gradients (3, 0) and (0, 4), a tenth of which is averaged; both get the length 0.4."""
    gradients, losses = np.array([[6.0, 0.0], [0.0, 2.0]]), [2.0, 0.5]
    method = make_method(DbmtlConfig(), 2, 0)
    np.testing.assert_allclose(direction(method, gradients, losses).numpy(), [0.4, 0.4])
    np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), [4 / 3, 1.0])


def test_the_scale_of_a_loss_does_not_matter() -> None:
    one, two = (make_method(DbmtlConfig(), 3, 0) for _ in range(2))
    scale = np.array([1e-3, 1.0, 1e4])
    for step in range(5):
        matrix, losses = jacobian("gaussian", 3, 8, step), np.random.default_rng(step).random(3) + 0.1
        scaled = direction(two, scale[:, None] * matrix, scale * losses)
        torch.testing.assert_close(direction(one, matrix, losses), scaled)


def test_a_loss_that_is_not_positive_is_divided_by_its_size() -> None:
    matrix = jacobian("gaussian", 3, 6, 0)
    negative = direction(make_method(DbmtlConfig(), 3, 0), matrix, [-2.0, 1.0, 3.0])
    positive = direction(make_method(DbmtlConfig(), 3, 0), matrix, [2.0, 1.0, 3.0])
    assert torch.equal(negative, positive)
    zero = make_method(DbmtlConfig(eps=0.01), 3, 0)
    least = make_method(DbmtlConfig(), 3, 0)
    assert torch.equal(
        direction(zero, matrix, np.array([0.0, 1.0, 3.0])), direction(least, matrix, np.array([0.01, 1.0, 3.0]))
    )


def test_a_zero_average_adds_nothing() -> None:
    matrix = jacobian("gaussian", 3, 6, 0)
    whole = make_method(DbmtlConfig(), 3, 0)
    matrix[1] = 0
    result = direction(whole, matrix)
    torch.testing.assert_close(result, direction(make_method(DbmtlConfig(), 2, 0), matrix[[0, 2]]))
    assert whole.diagnostics()["weights_K"][1] == 0
    assert (direction(make_method(DbmtlConfig(), 3, 0), np.zeros((3, 6))) == 0).all()


def test_a_nan_stays() -> None:
    method = make_method(DbmtlConfig(), 3, 0)
    matrix = jacobian("gaussian", 3, 6, 0)
    matrix[1, 2] = np.nan
    assert direction(method, matrix).isnan().all()
    assert direction(method, jacobian("gaussian", 3, 6, 1)).isnan().all()
    lost = make_method(DbmtlConfig(), 3, 0)
    assert direction(lost, jacobian("gaussian", 3, 6, 0), [1.0, np.nan, 1.0]).isnan().all()


def test_state_is_the_average_and_a_counter() -> None:
    method = make_method(DbmtlConfig(), 3, 0)
    assert {name: tuple(t.shape) for name, t in method.state_dict().items()} == {"steps": ()}
    direction(method, jacobian("gaussian", 3, 8, 0), dtype=torch.float32)
    state = method.state_dict()
    assert state["average_KP"].shape == (3, 8)
    assert state["average_KP"].dtype == torch.float32
    assert state["steps"] == 1
