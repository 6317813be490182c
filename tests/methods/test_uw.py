"""UW against TorchJD's, learned jointly with a network by torch's own Adam."""

from __future__ import annotations

import math

import pytest
import torch
from torchjd.scalarization import UW as TorchjdUW

from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.uw import UW, UwConfig


def test_a_run_equals_torchjds_with_a_joint_adam() -> None:
    method, theirs = UW(3, UwConfig(lr=0.05)), TorchjdUW(3).double()
    adam = torch.optim.Adam(theirs.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        values = torch.rand(3, generator=generator, dtype=torch.float64) * torch.tensor([0.1, 1.0, 10.0])
        losses = values.clone().requires_grad_()
        adam.zero_grad()
        theirs(losses).backward()
        adam.step()
        assert losses.grad is not None
        torch.testing.assert_close(method.weights(values), losses.grad)
        torch.testing.assert_close(method.log_variances_K, theirs.log_var.detach())


def test_kinds_and_start_enter_the_papers_joint_loss() -> None:
    """Half a squared error and a whole cross-entropy, each over its variance, from LibMTL's start."""
    config = UwConfig(kinds=["regression", "classification"], init=-0.5, lr=0.01)
    method, losses = UW(2, config), torch.tensor([3.0, 0.2], dtype=torch.float64, requires_grad=True)
    s = torch.full((2,), -0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([s], lr=0.01)
    for _ in range(10):
        joint = losses[0] / (2 * s[0].exp()) + losses[1] / s[1].exp() + s.sum() / 2
        expected, s.grad = torch.autograd.grad(joint, (losses, s))
        adam.step()
        torch.testing.assert_close(method.weights(losses.detach()), expected)


def test_with_constant_losses_the_variances_become_the_losses() -> None:
    losses = torch.tensor([4.0, 0.5], dtype=torch.float64)
    method = UW(2, UwConfig(kinds=["regression", "classification"], lr=0.05))
    for _ in range(800):
        weights = method.weights(losses)
    torch.testing.assert_close(weights, 1 / (2 * losses), rtol=1e-3, atol=0)


def test_without_anything_to_lose_a_weight_grows_by_the_step_size_and_below_zero_faster() -> None:
    method = UW(2, UwConfig(lr=0.025))
    for _ in range(101):
        weights = method.weights(torch.tensor([0.0, -1.0], dtype=torch.float64))
    assert weights[0] == pytest.approx(0.5 * math.exp(0.025 * 100), rel=1e-6)
    assert weights[0] < weights[1] < math.inf


def test_a_loss_that_is_not_a_number_shows_in_the_next_weights() -> None:
    method = UW(2, UwConfig())
    for _ in range(2):
        weights = method.weights(torch.tensor([1.0, float("nan")]))
    assert weights.isnan().tolist() == [False, True]


def test_bad_kinds_are_named() -> None:
    with pytest.raises(MethodError, match=r"uw\.kinds=\['regression', 'ranking'\]: .*choose of regression, classif"):
        UwConfig(kinds=["regression", "ranking"])
    with pytest.raises(MethodError, match=r"uw\.kinds=.*: give 1 kind, or one for each of the 3 tasks"):
        UW(3, UwConfig(kinds=["regression", "classification"]))
