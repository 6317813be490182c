"""A pass within `frozen_statistics` leaves nothing behind, and predicts what a training pass predicts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from experiments_vision.models.blocks import frozen_statistics
from tests.vision.models.networks import losses_of, small


@pytest.mark.parametrize("name", ["segnet", "mtan", "convnet"])
def test_the_running_statistics_stay_to_the_bit(name: str) -> None:
    model, batch = small(name)
    model(batch)
    before = copy.deepcopy(model.state_dict())
    with frozen_statistics(model):
        looked = model(batch)
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    trained = model(batch)
    assert all(torch.equal(one, other) for one, other in zip(looked.tasks, trained.tasks, strict=True))
    after = model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    norms = [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(moved) == 3 * len(norms) > 0


def test_gradients_within_are_those_of_a_training_pass() -> None:
    model, batch = small("mtan")
    parameters = list(model.parameters())
    with frozen_statistics(model):
        found = torch.autograd.grad(sum(losses_of(model(batch))), parameters)
    wanted = torch.autograd.grad(sum(losses_of(model(batch))), parameters)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_evaluation_uses_the_running_statistics_within() -> None:
    model, batch = small("convnet")
    model(batch)
    model.eval()
    wanted = model(batch).tasks
    with frozen_statistics(model):
        found = model(batch).tasks
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_layers_without_statistics_get_none_and_an_error_ends_the_freeze() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ZeroDivisionError), frozen_statistics(model):
        assert not model[0].track_running_stats
        raise ZeroDivisionError
    assert [layer.track_running_stats for layer in model] == [True, False]
    model(torch.rand(4, 3))
    assert model[0].num_batches_tracked == 1 and model[1].running_mean is None
