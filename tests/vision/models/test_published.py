"""The published sizes, with the roles read off the graph as `Surgery` reads them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from experiments_vision.contract import MultiTaskModel
from experiments_vision.models.mtan import MTAN
from experiments_vision.models.registry import make_model
from experiments_vision.models.segnet import SegNet
from mtrl_surgery.jacobian.shared_graph import edge_of, walk
from mtrl_surgery.jacobian.shared_roles import RoleBook, Roles


def count(parameters: list[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def roles_of(model: MultiTaskModel, side: int = 32) -> Roles:
    """Who shares what; nothing is differentiated."""
    losses = [output.sum() for output in model(torch.rand(2, 3, side, side)).tasks]
    tasks = list(range(len(losses)))
    return RoleBook().roles(walk([edge_of(loss) for loss in losses]), tasks, len(tasks), None, None, None)


def head(channels: int) -> int:
    """A dense head's size: 3 x 3 x 64 x 64, then 1 x 1."""
    return 36_928 + 65 * channels


@pytest.mark.parametrize(
    ("dataset", "heads", "channels"), [("nyuv2", 111_889, (13, 1, 3)), ("cityscapes", 74_376, (7, 1))]
)
def test_segnet(dataset: str, heads: int, channels: tuple[int, ...]) -> None:
    model = make_model("segnet", dataset, seed=0)
    assert isinstance(model, SegNet)
    roles = roles_of(model)
    assert count(roles.shared) == 24_943_296
    assert count(list(model.trunk.decode[-1].parameters())) == 37_056  # the published last shared layer
    assert [count(own) for own in roles.own] == [head(n) for n in channels]
    assert sum(head(n) for n in channels) == heads


@pytest.mark.parametrize(
    ("dataset", "published", "channels"), [("nyuv2", 44_117_184, (13, 1, 3)), ("cityscapes", 41_132_608, (7, 1))]
)
def test_mtan(dataset: str, published: int, channels: tuple[int, ...]) -> None:
    """The published number is the shared parameters and every task's masks; a task's own are its mask and its head."""
    model = make_model("mtan", dataset, seed=0)
    assert isinstance(model, MTAN)
    roles = roles_of(model)
    masks = 2_984_576
    assert count(roles.shared) == 24_943_296 + 10_220_160 == published - len(channels) * masks
    assert [count(own) for own in roles.own] == [masks + head(n) for n in channels]
    assert [count(list(branch.parameters())) for branch in model.branches] == [masks] * len(channels)
    assert dataset != "nyuv2" or len(channels) * masks == 8_953_728


def test_celeba() -> None:
    roles = roles_of(make_model("convnet", "celeba", seed=0))
    assert count(roles.shared) == 5_176_640
    assert [count(own) for own in roles.own] == [513] * 40
    assert 40 * 513 == 20_520


def test_celeba_has_nine_layers_that_halve_the_image_three_times() -> None:
    model = make_model("convnet", "celeba", seed=0)
    widths = [layer.weight.shape[0] for layer in model.trunk if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert widths == [64, 128, 128, 256, 256, 512, 512, 512, 512]
    sides: list[int] = []
    for layer in model.trunk:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    model(torch.rand(2, 3, 64, 64))
    assert sides == [64, 32, 32, 16, 16, 8, 8]


def test_initial_weights_are_xavier_normal() -> None:
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(3)
        model = MTAN(("segmentation", "depth"), 30, (32, 32, 32, 32, 32))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None and (layer.bias == 0).all()
            outputs, inputs, *kernel = layer.weight.shape
            wanted = (2 / ((outputs + inputs) * kernel[0] * kernel[1])) ** 0.5
            elements = layer.weight.numel()
            # Five standard errors of the deviation, and of the fourth moment: 3 for a normal, 1.8 for a uniform.
            if elements > 600:
                assert layer.weight.std().item() == pytest.approx(wanted, rel=5 / (2 * elements) ** 0.5)
            if elements > 4000:
                fourth = (layer.weight / wanted).pow(4).mean().item()
                assert fourth == pytest.approx(3, abs=5 * (96 / elements) ** 0.5)
