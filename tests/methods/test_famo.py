"""FAMO against autograd and torch's own Adam."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_surgery import Surgery
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.shared_missing import present_only
from mtrl_surgery.jacobian.update import SurgeryOptimizer
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.famo import FAMO, FamoConfig

EVERY = FamoConfig(compare_every=1)
NEXT_PLAIN = FamoConfig(compare_with="next_batch")
NEXT = FamoConfig(compare_with="next_batch", min_losses=[-0.5, 0.0, 0.1])


def test_a_run_equals_the_papers_update_by_autograd() -> None:
    config = replace(EVERY, w_lr=0.05, gamma=0.01, min_losses=[-0.5, 0.0, 0.1])
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
        torch.testing.assert_close(method.logits_K, logits.detach())


def test_weights_sum_to_one_and_favour_small_losses_at_first() -> None:
    weights = FAMO(3, FamoConfig()).weights(torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(weights, torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_the_task_that_falls_fastest_loses_weight() -> None:
    method, losses = FAMO(2, EVERY), torch.ones(2)
    for _ in range(20):
        weights = method.weights(losses)
        method.observe(torch.tensor([0.5, 0.99]))
    assert weights[0] < weights[1]


@pytest.mark.parametrize("compare_with", ["same_batch", "next_batch"])
def test_losses_at_or_below_their_bound_give_finite_weights(compare_with: str) -> None:
    method = FAMO(3, FamoConfig(compare_with=compare_with, compare_every=1))
    for losses in ([-1.0, 0.0, 2.0], [0.0, 0.0, 0.0]):
        weights = method.weights(torch.tensor(losses))
        method.observe(torch.tensor([0.5, -3.0, 1.0]))
        assert weights.isfinite().all()
        assert weights.sum() == pytest.approx(1)
    assert method.logits_K.isfinite().all()


def test_a_loss_that_is_not_a_number_shows() -> None:
    assert FAMO(2, FamoConfig()).weights(torch.tensor([1.0, float("nan")])).isnan().all()


def test_misuse_is_named() -> None:
    with pytest.raises(MethodError, match=r"observe\(\) comes after weights\(\)"):
        FAMO(2, EVERY).observe(torch.ones(2))
    with pytest.raises(MethodError, match=r"famo\.min_losses=\[0.0, 1.0\]: give 1 for all, or one for each of the 3"):
        FAMO(3, FamoConfig(min_losses=[0.0, 1.0]))


def test_on_one_batch_for_ever_both_comparisons_give_the_same_weights() -> None:
    """The same batch's losses after a step are then the next call's before it; the logits move one call later."""
    same, following = FAMO(3, replace(NEXT, compare_with="same_batch", compare_every=1)), FAMO(3, NEXT)
    rng = np.random.default_rng(0)
    stream = [torch.as_tensor(rng.uniform(0.2, 3, 3)) for _ in range(40)]
    for step, (before, after) in enumerate(pairwise(stream)):
        weights = same.weights(before)
        assert torch.equal(following.weights(before), weights)
        assert torch.equal(following.logits_K, same.logits_K)
        assert following.steps == step
        same.observe(after)
        assert not torch.equal(following.logits_K, same.logits_K)
    assert (weights - FAMO(3, NEXT).weights(before)).abs().max() > 0.01, "the logits have moved far enough to tell"


def test_the_next_batch_is_asked_for_nothing_after_the_step() -> None:
    method = FAMO(3, NEXT)
    assert FAMO(3, EVERY).needs_losses_after_step
    assert not method.needs_losses_after_step
    method.weights(torch.tensor([1.0, 2.0, 3.0]))
    before = deepcopy(method.state_dict())
    method.observe(torch.tensor([0.1, 2.0, 3.0]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


def test_the_engines_make_no_second_forward_pass_for_the_next_batch() -> None:
    calls: list[Tensor] = []

    def task_losses(theta: Tensor) -> Tensor:
        calls.append(theta)
        return (theta - torch.arange(3.0)).square() + 0.1

    for config, passes in ((EVERY, 2), (FamoConfig(), 2), (NEXT, 1)):
        calls.clear()
        parameters = FlatParameters({"theta": torch.ones(3)})
        SurgeryOptimizer(parameters, FAMO(3, config), 1e-3, 1e-8, None).step(task_losses, 0)
        assert len(calls) == passes
    weight = torch.ones(3, requires_grad=True)
    surgery = Surgery("famo", 3, compare_with="next_batch")
    for _ in range(3):  # without an observe() between them
        surgery.backward(list((weight * torch.arange(1.0, 4.0)).square()), [weight])


def test_a_run_over_batches_goes_on_to_the_bit_between_the_losses_that_are_compared() -> None:
    losses = torch.as_tensor(np.random.default_rng(1).uniform(0.2, 3, (20, 3)))
    method = FAMO(3, NEXT)
    for row in losses[:7]:
        method.weights(row)
    saved = deepcopy(method.state_dict())
    expected = [method.weights(row) for row in losses[7:]]
    restored = FAMO(3, NEXT)
    restored.load_state_dict(saved)
    assert all(torch.equal(restored.weights(row), weights) for row, weights in zip(losses[7:], expected, strict=True))
    forgetful = FAMO(3, NEXT)
    forgetful.load_state_dict({name: tensor for name, tensor in saved.items() if name != "log_losses_K"})
    assert not torch.equal(forgetful.weights(losses[7]), expected[0]), "the last losses are part of the state"


def test_a_task_that_missed_a_batch_is_compared_with_its_own_last_losses() -> None:
    method, eps = FAMO(3, FamoConfig(compare_with="next_batch")), 1e-8
    first = torch.tensor([1.0, 2.0, 3.0]).double()
    method.weights(first)
    with present_only(method, [0, 2]) as part:
        assert isinstance(part, FAMO)
        part.weights(torch.tensor([0.5, 2.9]).double())
    torch.testing.assert_close(method.log_losses_K, (torch.tensor([0.5, 2.0, 2.9]).double() + eps).log())
    assert method.logits_K[1] == 0, "nothing is learned of a task that is missing"
    assert method.logits_K[0] < 0 < method.logits_K[2]


def test_losses_after_the_step_are_due_once_in_so_many_steps_also_after_a_restart_and_with_a_task_missing() -> None:
    """What is observed at other steps is not looked at; a batch without some tasks counts as any other."""
    config, rng = FamoConfig(compare_every=4), np.random.default_rng(2)
    method, due, moved = FAMO(3, config), [], []
    assert method.needs_losses_after_step, "the first step is one of them"
    for step in range(14):
        before, after = (torch.as_tensor(rng.uniform(0.2, 3, 3)) for _ in range(2))
        present = [0, 2] if step in (5, 8) else [0, 1, 2]
        with present_only(method, present) as part:
            assert isinstance(part, FAMO)
            part.weights(before[present])
        due.append(method.needs_losses_after_step)
        logits = method.logits_K.clone()
        with present_only(method, present) as part:
            part.observe(after[present])
        moved.append(not torch.equal(method.logits_K, logits))
        if step in (2, 9):
            restored = FAMO(3, config)
            restored.load_state_dict(method.state_dict())
            assert restored.needs_losses_after_step == method.needs_losses_after_step
            method = restored
    assert due == moved == [step % 4 == 0 for step in range(14)]


def share_of_the_noisy_task(config: FamoConfig) -> float:
    """After 600 steps on small batches of three linear regressions, whose third one has noise that can't be learned."""
    generator = torch.Generator().manual_seed(0)
    theta_KD = torch.zeros(3, 4, requires_grad=True)
    noise_K1 = torch.tensor([[0.3], [0.3], [3.0]])
    method, optimizer = FAMO(3, config), torch.optim.Adam([theta_KD], lr=0.01)

    def losses(x_KBD: Tensor, noise_KB: Tensor) -> Tensor:
        return ((x_KBD * (theta_KD - 1)[:, None]).sum(-1) + noise_KB).square().mean(-1)

    for _ in range(600):
        batch = torch.randn(3, 16, 4, generator=generator), torch.randn(3, 16, generator=generator) * noise_K1
        optimizer.zero_grad()
        losses_K = losses(*batch)
        (losses_K * method.weights(losses_K.detach())).sum().backward()
        optimizer.step()
        if method.needs_losses_after_step:
            method.observe(losses(*batch).detach())
    return float(method.logits_K.softmax(0)[2])


def test_a_comparison_once_in_sixteen_steps_finds_the_slow_task_and_one_with_the_next_batch_hardly() -> None:
    """Between two batches a loss differs by far more than one step changes it."""
    every, sixteenth, following = (share_of_the_noisy_task(config) for config in (EVERY, FamoConfig(), NEXT_PLAIN))
    assert min(every, sixteenth) > 0.5 > 0.45 > following
