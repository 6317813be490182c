"""Every network small enough for float64, with losses that differ by task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from experiments_vision.contract import MultiTaskModel, Outputs
from experiments_vision.models.convolutional import ConvNet, LeNet
from experiments_vision.models.mtan import MTAN
from experiments_vision.models.segnet import SegNet

DENSE = ("segmentation", "depth", "normal")
FILTERS = (4, 6, 8, 10, 10)

SMALL: dict[str, tuple[Callable[[], MultiTaskModel], tuple[int, ...]]] = {
    "segnet": (lambda: SegNet(DENSE, 5, FILTERS), (2, 3, 64, 32)),
    "mtan": (lambda: MTAN(DENSE, 5, FILTERS), (2, 3, 64, 32)),
    "convnet": (lambda: ConvNet(["a", "b", "c"], (4, 6, 6, 8, 8, 10, 10)), (4, 3, 16, 24)),
    "lenet": (lambda: LeNet(["left", "right"], 12), (3, 1, 12, 12)),
}
"""A network's name -> how to make it, and the shape of a batch."""


def small(name: str) -> tuple[MultiTaskModel, Tensor]:
    """A network and a batch, in float64."""
    make, shape = SMALL[name]
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(5)
        model = make().double()
        return model, torch.rand(shape, dtype=torch.float64)


def losses_of(outputs: Outputs) -> list[Tensor]:
    """A loss a task that reads each of its outputs by a weight of its own."""
    found = []
    for task, output in enumerate(outputs.tasks):
        weights = torch.linspace(-1, 1 + task, output.numel(), dtype=output.dtype).view(output.shape)
        found.append((weights * output).mean() + (output * (task + 1)).cos().mean())
    return found


def gradients(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The `.grad`s, which are then cleared."""
    found = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found
