"""SAM-GS against Alg. 1 written out, and its defined answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.methods import _common
from mtrl_surgery.methods._common import magnitude_similarity
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.methods.samgs import SamgsConfig
from tests.methods.jacobians import direction, jacobian


class Literal:
    """Alg. 1, one task, one pair, one coordinate vector at a time; no thought for speed."""

    def __init__(self, tasks: int, parameters: int, config: SamgsConfig) -> None:
        self.config = config
        self.m = [np.zeros(parameters) for _ in range(tasks)]
        self.h, self.t = 0.0, 0

    def __call__(self, gradients: np.ndarray) -> tuple[np.ndarray, bool]:
        cfg = self.config
        self.t += 1
        norms = [np.linalg.norm(g) for g in gradients]
        tasks = len(norms)
        psi = [
            2 * norms[i] * norms[j] / (norms[i] ** 2 + norms[j] ** 2)
            for i in range(tasks)
            for j in range(tasks)
            if i != j
        ]
        similarity = min(psi) if cfg.similarity == "min" else sum(psi) / len(psi)
        self.m = [cfg.beta1 * m + (1 - cfg.beta1) * g for m, g in zip(self.m, gradients, strict=True)]
        self.h = cfg.beta2 * self.h + (1 - cfg.beta2) * (1 - similarity) ** 2 + cfg.eps
        h_hat = self.h / (1 - cfg.beta2**self.t)
        equal = sum(np.mean(norms) / n * g for n, g in zip(norms, gradients, strict=True))
        if similarity < cfg.gamma:
            return equal, True
        weights = [np.abs(m / (1 - cfg.beta1**self.t)) / (np.sqrt(h_hat) + cfg.eps) for m in self.m]
        total = sum(w * g for w, g in zip(weights, gradients, strict=True))
        if cfg.rescale == "equalised_norm":
            total = total / np.linalg.norm(total) * np.linalg.norm(equal)
        return total, False


@pytest.mark.parametrize("rescale", ["none", "equalised_norm"])
@pytest.mark.parametrize("similarity", ["min", "mean"])
def test_200_steps_equal_the_algorithm(similarity: str, rescale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: 40)  # 10 columns at a time, the last part is short
    config = SamgsConfig(similarity=similarity, rescale=rescale, gamma=0.93)
    method, literal = make_method(config, 4, 0), Literal(4, 27, config)
    branches = []
    rng = np.random.default_rng(0)
    for _ in range(200):
        gradients = rng.standard_normal((4, 27)) * rng.uniform(0.6, 1.8, (4, 1))
        expected, equalised = literal(gradients)
        result = direction(method, gradients)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        assert bool(method.diagnostics()["equalised"]) == equalised
        branches.append(equalised)
    assert 20 < sum(branches) < 180, "both branches must be taken for this to be a test"


def test_first_step_in_closed_form() -> None:
    """K = 2 with norms 3 and 4: psi = 24/25, so h_hat = (1/25)^2 + eps / (1 - beta2) and m_hat = g."""
    gradients = torch.tensor([[3.0, 0.0], [0.0, -4.0]], dtype=torch.float64)
    result = direction(make_method(SamgsConfig(), 2, 0), gradients)
    root = (0.04**2 + 1e-6) ** 0.5 + 1e-8
    torch.testing.assert_close(result, torch.tensor([9.0, -16.0], dtype=torch.float64) / root)
    equal = direction(make_method(SamgsConfig(gamma=0.97), 2, 0), gradients)
    torch.testing.assert_close(equal, torch.tensor([3.5, -3.5], dtype=torch.float64))


def test_weights_of_the_log() -> None:
    gradients = jacobian("badly_scaled", 3, 8, 1)
    norms = np.linalg.norm(gradients, axis=1)
    method = make_method(SamgsConfig(), 3, 0)
    direction(method, gradients)
    np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), norms.mean() / norms)
    method = make_method(SamgsConfig(gamma=0.0), 3, 0)
    direction(method, gradients)
    psi = min(2 * a * b / (a * a + b * b) for a in norms for b in norms)
    root = np.sqrt((1 - psi) ** 2 + 1e-6) + 1e-8
    fit = [(np.abs(g) / root * g) @ g / (g @ g) for g in gradients]
    np.testing.assert_allclose(method.diagnostics()["weights_K"].numpy(), fit)


def test_the_momentum_branch_grows_with_the_square_of_the_gradients() -> None:
    """The counter-example to linearity under scaling; `rescale=equalised_norm` is linear (see test_contract)."""
    one, two = (make_method(SamgsConfig(gamma=0.0), 3, 0) for _ in range(2))
    for step in range(4):
        matrix = jacobian("gaussian", 3, 8, step)
        torch.testing.assert_close(4 * direction(one, matrix), direction(two, 2 * matrix))


def test_rescaled_momentum_is_parallel_to_the_papers_and_as_long_as_the_equalised_direction() -> None:
    matrix = jacobian("gaussian", 3, 8, 0)
    paper = direction(make_method(SamgsConfig(gamma=0.0), 3, 0), matrix)
    equal = direction(make_method(SamgsConfig(gamma=2.0), 3, 0), matrix)
    rescaled = direction(make_method(SamgsConfig(gamma=0.0, rescale="equalised_norm"), 3, 0), matrix)
    torch.testing.assert_close(rescaled / rescaled.norm(), paper / paper.norm())
    torch.testing.assert_close(rescaled.norm(), equal.norm())


def test_zero_gradients_have_defined_similarities() -> None:
    norms = torch.tensor([0.0, 0.0, 2.0, 1e-300, 1e300, float("nan")], dtype=torch.float64)
    psi = magnitude_similarity(norms)
    assert psi[0, 1] == 1, "both zero"
    assert psi[0, 2] == 0, "exactly one zero"
    assert psi[3, 4] == 0, "the squares would leave the range"
    assert psi[2, 2] == 1
    assert psi[5].isnan().all()


def test_a_zero_gradient_adds_nothing_to_the_equalised_direction() -> None:
    matrix = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 6.0]])
    method = make_method(SamgsConfig(), 3, 0)
    torch.testing.assert_close(direction(method, matrix), torch.tensor([3.0, 3.0], dtype=torch.float64))
    assert method.diagnostics()["equalised"] == 1
    assert method.diagnostics()["similarity"] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6))
def test_the_least_similarity_is_that_of_the_longest_and_the_shortest(lengths: list[float]) -> None:
    psi = magnitude_similarity(torch.tensor(lengths, dtype=torch.float64))
    low, high = min(lengths), max(lengths)
    assert float(psi.amin()) == pytest.approx(2 * low * high / (low**2 + high**2), rel=1e-12)
    assert torch.equal(psi, psi.T)


def test_state_is_one_momentum_a_task_and_two_scalars() -> None:
    method = make_method(SamgsConfig(), 3, 0)
    assert {name: tuple(t.shape) for name, t in method.state_dict().items()} == {"second_moment": (), "steps": ()}
    direction(method, jacobian("gaussian", 3, 8, 0), dtype=torch.float32)
    state = method.state_dict()
    assert state["momentum_KP"].shape == (3, 8)
    assert state["momentum_KP"].dtype == torch.float32
    assert state["steps"] == 1
