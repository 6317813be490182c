"""Shapes, conventions, gradients and bad input of every network."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.errors import VisionError
from experiments_vision.models.convolutional import ConvNet, LeNet
from experiments_vision.models.mtan import MTAN
from experiments_vision.models.segnet import SegNet
from tests.vision.models.networks import DENSE, FILTERS, SMALL, losses_of, small

SHAPES = {
    "segnet": [(2, 5, 64, 32), (2, 1, 64, 32), (2, 3, 64, 32)],
    "mtan": [(2, 5, 64, 32), (2, 1, 64, 32), (2, 3, 64, 32)],
    "convnet": [(4,), (4,), (4,)],
    "lenet": [(3, 10), (3, 10)],
}
FEATURES = {"segnet": [(2, 4, 64, 32)], "convnet": [(4, 10)], "lenet": [(3, 50)]}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_have_the_tasks_shapes(name: str) -> None:
    model, batch = small(name)
    outputs = model(batch)
    assert [tuple(output.shape) for output in outputs.tasks] == SHAPES[name]
    assert len(model.tasks) == len(outputs.tasks)
    if name in FEATURES:
        assert [tuple(feature.shape) for feature in outputs.features] == FEATURES[name]


@pytest.mark.parametrize("name", SMALL)
def test_a_gradient_reaches_every_parameter_and_it_is_that_of_its_task(name: str) -> None:
    """Also that a task's head and branch are reached by that task alone."""
    model, batch = small(name)
    parameters = dict(model.named_parameters())
    losses = losses_of(model(batch))
    reached: dict[str, set[int]] = {}
    for task, loss in enumerate(losses):
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for key, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                assert torch.isfinite(gradient).all()
                reached.setdefault(key, set()).add(task)
    everyone = set(range(len(losses)))
    for key in parameters:
        part, number = key.split(".")[:2]
        wanted = {int(number)} if part in ("heads", "branches") else everyone
        assert reached[key] == wanted, key


@pytest.mark.parametrize("name", ["segnet", "mtan"])
def test_dense_outputs_are_what_the_objectives_expect(name: str) -> None:
    model, batch = small(name)
    segmentation, _, normal = model(batch).tasks
    torch.testing.assert_close(segmentation.exp().sum(1), torch.ones_like(segmentation[:, 0]))
    torch.testing.assert_close(normal.norm(dim=1), torch.ones_like(normal[:, 0]))


def test_unpooling_puts_a_maximum_back_in_its_place() -> None:
    """The coarsest level's input is the pooled encoder, each value at the place where it was the greatest of four."""
    model, batch = small("segnet")
    assert isinstance(model, SegNet)
    maps = model.trunk(batch)
    coarsest, unpooled = maps.encoded[-1], maps.unpooled[0]
    is_there = unpooled != 0
    assert unpooled.shape == coarsest.shape and is_there.any()
    assert torch.equal(unpooled[is_there], coarsest[is_there])
    assert torch.equal(F.max_pool2d(unpooled, 2), F.max_pool2d(coarsest, 2))


def watch(layers: Iterable[nn.Module]) -> list[Tensor]:
    """What each layer reads, in the order of the calls."""
    seen: list[Tensor] = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize("bias", [-60.0, 60.0])
def test_a_mask_multiplies_the_trunks_map(bias: float) -> None:
    """Shut, the next level gets nothing; wide open, it gets the trunk's map."""
    model, batch = small("mtan")
    assert isinstance(model, MTAN)
    for mask in [*model.branches[1].down, *model.branches[1].up]:
        nn.init.zeros_(mask[3].weight)
        nn.init.zeros_(mask[4].weight)
        nn.init.constant_(mask[4].bias, bias)
    onward, last = watch(model.down), watch([model.heads[1]])
    model(batch)
    maps = model.trunk(batch)
    of_branch = onward[5:10]  # five levels a branch
    for found, whole in zip([*of_branch, *last], [*maps.encoded, maps.decoded[-1]], strict=True):
        torch.testing.assert_close(found, whole if bias > 0 else torch.zeros_like(whole), rtol=1e-12, atol=1e-20)


def test_a_mask_reads_the_trunks_map_beside_what_the_level_before_sent() -> None:
    """Downward pooled, upward resized by a map that keeps its corners."""
    model, batch = small("mtan")
    assert isinstance(model, MTAN)
    branch, sent = model.branches[2], []
    for step in [*model.down, *model.up]:
        step.register_forward_hook(lambda _, inputs, output: sent.append(output))
    read, resized, masked = watch([*branch.down, *branch.up]), watch(model.up), watch([model.heads[2]])
    maps = model(batch).features
    early, unpooled, decoded = maps[:5], maps[10:15], maps[15:]
    sent = sent[20:]  # of the third branch: five levels down, five up
    assert torch.equal(read[0], early[0])
    for level in range(1, 5):
        assert torch.equal(read[level], torch.cat((early[level], F.max_pool2d(sent[level - 1], 2)), dim=1))
    for level in range(5):
        assert torch.equal(read[5 + level], torch.cat((unpooled[level], sent[5 + level]), dim=1))
    corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    before = F.max_pool2d(sent[4], 2)
    assert torch.equal(resized[10][corners], before[corners])
    outputs = [branch.up[level](read[5 + level]) * decoded[level] for level in range(5)]
    for level in range(1, 5):
        torch.testing.assert_close(resized[10 + level][corners], outputs[level - 1][corners])
        assert resized[10 + level].shape[-1] == 2 * outputs[level - 1].shape[-1]
    torch.testing.assert_close(masked[0], outputs[4])


def test_the_two_dense_networks_have_the_same_trunk() -> None:
    model, batch = small("segnet")
    with_branches, _ = small("mtan")
    with_branches.trunk.load_state_dict(model.trunk.state_dict())
    for one, other in zip(model.trunk(batch), with_branches.trunk(batch), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["segnet", "mtan"])
@pytest.mark.parametrize("shape", [(2, 3, 64, 33), (2, 3, 48, 64), (2, 3, 0, 32)])
def test_sides_that_cannot_be_halved_five_times(name: str, shape: tuple[int, ...]) -> None:
    model, _ = small(name)
    with pytest.raises(VisionError, match=f"{shape[2]} x {shape[3]} pixels.* multiples of 32"):
        model(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("segnet", (2, 1, 32, 32), r"\(2, 1, 32, 32\): expected \[batch, 3, height, width\]"),
        ("convnet", (3, 16, 16), r"\(3, 16, 16\): expected \[batch, 3"),
        ("convnet", (4, 3, 16, 20), "16 x 20 pixels.* multiples of 8"),
        ("lenet", (3, 1, 12, 13), r"\(3, 1, 12, 13\): expected \[batch, 1, 12, 12\]"),
    ],
)
def test_images_of_another_shape(name: str, shape: tuple[int, ...], message: str) -> None:
    model, _ = small(name)
    with pytest.raises(VisionError, match=message):
        model(torch.zeros(shape, dtype=torch.float64))


def test_bytes_are_no_images() -> None:
    model, _ = small("segnet")
    with pytest.raises(VisionError, match="uint8"):
        model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_tasks_that_make_no_sense() -> None:
    with pytest.raises(VisionError, match="unknown task 'edges'; choices: segmentation, depth, normal"):
        SegNet(("depth", "edges"), 5, FILTERS)
    with pytest.raises(VisionError, match="each once"):
        MTAN((*DENSE, "depth"), 5, FILTERS)
    with pytest.raises(VisionError, match="each once"):
        ConvNet(["a", "a"])
    with pytest.raises(VisionError, match="one at least"):
        LeNet([], 12)
    with pytest.raises(VisionError, match="size=3"):
        LeNet(["left"], 3)
