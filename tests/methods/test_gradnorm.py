"""GradNorm against autograd through its own loss, on a network that learns along."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.gradnorm import GradNorm, GradnormConfig


def toy_losses(weight: Tensor, heads: Tensor) -> Tensor:
    """Three regressions of very different scale through one shared layer."""
    inputs = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3)
    targets = torch.stack([inputs.sum(1), 10 * inputs[:, 0], 0.1 * inputs[:, 1] ** 2])
    return (heads @ torch.tanh(inputs @ weight).T - targets).square().mean(dim=1)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_a_run_equals_autograd_of_the_papers_loss(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    heads = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    method = GradNorm(3, GradnormConfig(alpha=alpha, lr=0.02))
    learned = torch.ones(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([learned], lr=0.02)
    first = toy_losses(weight, heads).detach()
    for _ in range(40):
        losses = toy_losses(weight, heads)
        jacobian = torch.stack([torch.autograd.grad(loss, weight, retain_graph=True)[0].flatten() for loss in losses])
        used = learned.detach().clone()
        torch.testing.assert_close(method.weights(jacobian @ jacobian.T, losses.detach()), used)
        # The paper's loss of the weights, differentiated through the weighted losses' gradients.
        norms = torch.stack(
            [
                torch.autograd.grad(w * loss, weight, create_graph=True, retain_graph=True)[0].norm()
                for w, loss in zip(learned, losses, strict=True)
            ]
        )
        share = losses.detach() / first
        target = norms.mean().detach() * (share / share.mean()) ** alpha
        (learned.grad,) = torch.autograd.grad((norms - target).abs().sum(), learned)
        adam.step()
        with torch.no_grad():
            learned *= 3 / learned.sum()
            weight -= 0.01 * (used @ jacobian).reshape(3, 4)
    assert (learned.detach() - 1).abs().max() > 0.1, "the weights went nowhere: the run shows nothing"


def run(method: GradNorm, losses: list[float], calls: int = 2, norms: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    for _ in range(calls):
        weights = method.weights(torch.tensor(norms, dtype=torch.float64).square().diag(), torch.tensor(losses))
    return weights


def test_the_slow_task_gains_weight_and_the_sum_stays() -> None:
    method = GradNorm(2, GradnormConfig())
    run(method, [1.0, 100.0], calls=1)
    weights = run(method, [0.9, 10.0], calls=20)
    assert weights[0] > 1.2
    assert weights.sum() == pytest.approx(2)
    assert method.diagnostics()["rates_K"][0] == pytest.approx(0.9 / 0.5)


def test_without_alpha_the_weighted_norms_become_alike_for_losses_of_any_sign() -> None:
    weights = run(GradNorm(2, GradnormConfig(alpha=0.0, lr=0.01)), [-1.0, 3.0], calls=400, norms=(1.0, 3.0))
    assert weights.tolist() == pytest.approx([1.5, 0.5], abs=0.02)


def test_weights_stay_above_zero() -> None:
    method = GradNorm(2, GradnormConfig(lr=0.5))
    weights = run(method, [1.0, 1.0], calls=1)
    for _ in range(50):
        weights = run(method, [0.0, 1.0], calls=1)  # task 0 is solved: its target is zero
        assert (weights > 0).all()
        assert weights.sum() == pytest.approx(2)
    assert weights[0] < 0.01


def test_initial_losses_may_be_given() -> None:
    method = GradNorm(2, GradnormConfig(initial_losses=[2.0]))
    run(method, [1.0, 3.0], calls=1)
    torch.testing.assert_close(method.diagnostics()["rates_K"], torch.tensor([0.5, 1.5], dtype=torch.float64))
    with pytest.raises(MethodError, match=r"gradnorm\.initial_losses=\[1.0, 2.0\]: give none, 1 for all, or one for"):
        GradNorm(3, GradnormConfig(initial_losses=[1.0, 2.0]))
    with pytest.raises(MethodError, match=r"gradnorm\.initial_losses=\[0.0\]: must be > 0"):
        GradnormConfig(initial_losses=[0.0])


def test_solved_tasks_and_zero_gradients_leave_the_weights_where_they_are() -> None:
    method = GradNorm(2, GradnormConfig())
    run(method, [1.0, 2.0], calls=1)
    assert run(method, [0.0, 0.0], calls=3).tolist() == [1.0, 1.0]
    assert run(method, [1.0, 1.0], calls=3, norms=(0.0, 0.0)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_loss_without_a_rate_shows_in_the_next_weights(bad: float) -> None:
    method = GradNorm(2, GradnormConfig())
    run(method, [1.0, 1.0], calls=1)
    assert run(method, [bad, 1.0]).isnan().all()
    assert run(GradNorm(2, GradnormConfig()), [0.0, 1.0]).isnan().all(), "an initial loss of zero"
