"""CelebA, QM9 and MultiDigits against plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Objective, Targets
from experiments_vision.delta import BASELINES
from experiments_vision.errors import VisionError
from experiments_vision.objectives.registry import OBJECTIVES, judge, make_objective
from experiments_vision.tasks import TASKS

STD = torch.linspace(0.5, 2, 11)


def celeba(seed: int, size: int) -> tuple[list[Tensor], Targets]:
    rng = torch.Generator().manual_seed(seed)
    truth = (torch.rand(size, 40, generator=rng) < 0.3).float()
    return list(torch.randn(40, size, generator=rng).unbind()), {"attributes": truth}


def qm9(seed: int, size: int) -> tuple[list[Tensor], Targets]:
    rng = torch.Generator().manual_seed(seed)
    return list(torch.randn(11, size, generator=rng).unbind()), {"targets": torch.randn(size, 11, generator=rng)}


def digits(seed: int, size: int) -> tuple[list[Tensor], Targets]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (2, size), generator=rng)
    outputs = [torch.randn(size, 10, generator=rng) + 2 * F.one_hot(own, 10) for own in labels]
    return outputs, {"left": labels[0], "right": labels[1]}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_tasks_are_the_models(name: str) -> None:
    objective = judge(name)
    assert tuple(objective.tasks) == TASKS[name]
    assert {spec.task for spec in objective.metrics} == set(objective.tasks)
    names = [spec.name for spec in objective.metrics]
    assert len(set(names)) == len(names)
    assert name == "multidigits" or names == list(BASELINES[name])


@pytest.mark.parametrize(("objective", "drawn"), [
    (judge("celeba"), celeba(0, 5)), (judge("qm9"), qm9(0, 5)), (judge("multidigits"), digits(0, 5)),
])  # fmt: skip
def test_no_two_losses_share_a_node(objective: Objective, drawn: tuple[list[Tensor], Targets]) -> None:
    leaves = [output.requires_grad_() for output in drawn[0]]
    losses = objective.losses(leaves, drawn[1])
    assert len(losses) == len(objective.tasks)
    for place, loss in enumerate(losses):
        reached = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
        assert [own is not None for own in reached] == [task == place for task in range(len(leaves))]


def test_celebas_losses_and_f1() -> None:
    objective = judge("celeba")
    meter = objective.meter()
    batches = [celeba(0, 9), celeba(1, 4)]
    for outputs, targets in batches:
        meter.update(outputs, targets)
    outputs, targets = batches[0]
    probability = 1 / (1 + np.exp(-torch.stack(outputs, 1).double().numpy()))
    truth = targets["attributes"].numpy()
    entropy = -(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean(0)
    assert [loss.item() for loss in objective.losses(outputs, targets)] == pytest.approx(entropy.tolist(), rel=1e-4)

    guess = np.concatenate([torch.stack(own, 1).numpy() > 0 for own, _ in batches])
    truth = np.concatenate([own["attributes"].numpy() > 0.5 for _, own in batches])
    hits = (guess & truth).sum(0)
    expected = np.where(guess.sum(0) + truth.sum(0) > 0, 2 * hits / np.maximum(guess.sum(0) + truth.sum(0), 1), 0)
    found = meter.compute()
    assert list(found["pooled"].values()) == pytest.approx(expected.tolist())
    assert list(found["batches"].values()) == pytest.approx(expected.tolist(), abs=1e-7)
    assert objective.score(found["pooled"]) == pytest.approx(expected.mean())


def test_an_attribute_without_positives_has_an_f1_of_zero_and_no_example_none() -> None:
    objective = judge("celeba")
    meter = objective.meter()
    assert all(math.isnan(value) for value in meter.compute()["pooled"].values())
    meter.update([torch.full((3,), -1.0)] * 40, {"attributes": torch.zeros(3, 40)})
    for values in meter.compute().values():
        assert set(values.values()) == {0.0}


def test_qm9_trains_on_squares_and_reports_absolute_errors_in_its_units() -> None:
    objective = make_objective("qm9", {"target_std": STD})
    outputs, targets = qm9(0, 6)
    difference = torch.stack(outputs, 1).double().numpy() - targets["targets"].double().numpy()
    losses = [loss.item() for loss in objective.losses(outputs, targets)]
    assert losses == pytest.approx((difference**2).mean(0).tolist(), rel=1e-5)
    meter = objective.meter()
    meter.update(outputs, targets)
    more, and_targets = qm9(1, 2)
    meter.update(more, and_targets)
    rest = torch.stack(more, 1).double().numpy() - and_targets["targets"].double().numpy()
    milli = np.array([1, 1, 1000, 1000, 1, 1000, 1000, 1000, 1000, 1000, 1])
    expected = np.abs(np.concatenate([difference, rest])).mean(0) * STD.double().numpy() * milli
    found = meter.compute()
    assert list(found["pooled"].values()) == pytest.approx(expected.tolist(), rel=1e-5)
    assert found["batches"] == found["pooled"]
    assert objective.score(BASELINES["qm9"]) == pytest.approx(0)


@pytest.mark.parametrize("std", [torch.ones(10), torch.zeros(11), torch.full((11,), torch.nan)])
def test_qm9_refuses_deviations_that_make_no_sense(std: Tensor) -> None:
    with pytest.raises(VisionError, match=r"target_std=.*expected 11 positive numbers"):
        make_objective("qm9", {"target_std": std})
    with pytest.raises(VisionError, match="facts lack target_std"):
        make_objective("qm9")


def test_digits_of_both_modes() -> None:
    objective = judge("multidigits")
    meter = objective.meter()
    batches = [digits(0, 30), digits(1, 10)]
    for outputs, targets in batches:
        meter.update(outputs, targets)
    right = [[(o.argmax(1) == t[n]).double() for n, o in zip(objective.tasks, out, strict=True)] for out, t in batches]
    found = meter.compute()
    for place, task in enumerate(objective.tasks):
        pooled = torch.cat([own[place] for own in right]).mean().item()
        batched = float(np.mean([own[place].mean() for own in right]))
        assert found["pooled"][f"accuracy_{task}"] == pytest.approx(pooled)
        assert found["batches"][f"accuracy_{task}"] == pytest.approx(batched)
        assert 0 < pooled < 1
    assert objective.score({"accuracy_left": 0.5, "accuracy_right": 1.0}) == 0.75
    outputs, targets = batches[0]
    logp = torch.stack(outputs).double().log_softmax(2).numpy()
    expected = [-logp[k, np.arange(30), targets[task].numpy()].mean() for k, task in enumerate(objective.tasks)]
    assert [loss.item() for loss in objective.losses(outputs, targets)] == pytest.approx(expected, rel=1e-5)


def test_updates_know_no_data_dependent_shape() -> None:
    for objective, (outputs, targets) in (
        (judge("celeba"), celeba(0, 3)),
        (judge("qm9"), qm9(0, 3)),
        (judge("multidigits"), digits(0, 3)),
    ):
        meter = objective.meter()
        meter.update([own.to("meta") for own in outputs], {name: own.to("meta") for name, own in targets.items()})
