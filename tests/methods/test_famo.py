"""FAMO against autograd and torch's own Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.famo import FAMO
from mtrl_surgery.methods.options.losses import FamoConfig


def test_a_run_equals_the_papers_update_by_autograd() -> None:
    config = FamoConfig(w_lr=0.05, gamma=0.01, min_losses=[-0.5, 0.0, 0.1])
    method = FAMO(3, config)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.05, weight_decay=0.01)
    bounds, rng = torch.tensor([-0.5, 0.0, 0.1], dtype=torch.float64), np.random.default_rng(0)
    for _ in range(50):
        before, after = (torch.as_tensor(rng.uniform(0.2, 3, 3)) for _ in range(2))
        # Eq. of the reweighted loss: c sum_k z_k log(l_k - b_k), whose gradient in l_k is the weight.
        losses = before.clone().requires_grad_()
        above = losses - bounds + 1e-8
        share = logits.softmax(0).detach()
        ((share * above.log()).sum() / (share / above).sum().detach()).backward()
        assert losses.grad is not None
        torch.testing.assert_close(method.weights(before), losses.grad)
        fall = (before - bounds + 1e-8).log() - (after - bounds + 1e-8).log()
        logits.grad = torch.autograd.grad(logits.softmax(0), logits, grad_outputs=fall)[0]
        adam.step()
        method.observe(after)
        torch.testing.assert_close(method.state["logits_K"], logits.detach())


def test_weights_sum_to_one_and_favour_small_losses_at_first() -> None:
    weights = FAMO(3, FamoConfig()).weights(torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(weights, torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_the_task_that_falls_fastest_loses_weight() -> None:
    method, losses = FAMO(2, FamoConfig()), torch.ones(2)
    for _ in range(20):
        weights = method.weights(losses)
        method.observe(torch.tensor([0.5, 0.99]))
    assert weights[0] < weights[1]


def test_losses_at_or_below_their_bound_give_finite_weights() -> None:
    method = FAMO(3, FamoConfig())
    for losses in ([-1.0, 0.0, 2.0], [0.0, 0.0, 0.0]):
        weights = method.weights(torch.tensor(losses))
        method.observe(torch.tensor([0.5, -3.0, 1.0]))
        assert weights.isfinite().all()
        assert weights.sum() == pytest.approx(1)
    assert method.state["logits_K"].isfinite().all()


def test_a_loss_that_is_not_a_number_shows() -> None:
    assert FAMO(2, FamoConfig()).weights(torch.tensor([1.0, float("nan")])).isnan().all()


def test_misuse_is_named() -> None:
    with pytest.raises(MethodError, match=r"observe\(\) comes after weights\(\)"):
        FAMO(2, FamoConfig()).observe(torch.ones(2))
    with pytest.raises(MethodError, match=r"famo\.min_losses=\[0.0, 1.0\]: give 1 bound, or one for each of the 3"):
        FAMO(3, FamoConfig(min_losses=[0.0, 1.0]))
