"""Building blocks of the convolutional networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from experiments_vision.errors import VisionError

FINISH: dict[str, Callable[[Tensor], Tensor]] = {
    "segmentation": lambda scores: F.log_softmax(scores, dim=1),
    "depth": lambda depth: depth,
    "normal": lambda normal: F.normalize(normal, dim=1),
}
"""The last layer of a dense task's head: log-probabilities, a plain number, a unit vector."""


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution with batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def attention(inputs: int, outputs: int) -> nn.Sequential:
    """Two 1 x 1 convolutions to a mask in (0, 1) for each of the outputs."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.Sigmoid(),
    )


class DenseHead(nn.Module):
    """A task's prediction for every pixel: of `classes` channels for segmentation, 1 for depth, 3 for normals.

    There is no activation between its two convolutions, as published.

    Raises:
        VisionError: for an unknown task.
    """

    def __init__(self, task: str, inputs: int, classes: int) -> None:
        super().__init__()
        if task not in FINISH:
            raise VisionError(f"tasks: unknown task {task!r}; choices: {', '.join(FINISH)}")
        outputs = {"segmentation": classes, "depth": 1, "normal": 3}[task]
        self.layers = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1))
        self.finish = FINISH[task]
        xavier(self)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """The prediction [B, classes or 1 or 3, H, W]."""
        return self.finish(self.layers(map_BCHW))


def xavier(module: nn.Module) -> None:
    """The SegNets' initial weights: Xavier normal, zero biases; batch norm starts as torch has it, at 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_images(images_BCHW: Tensor, channels: int, multiple: int) -> None:
    """Raise VisionError for another number of axes or channels, or a side that is no multiple of `multiple`."""
    shape = tuple(images_BCHW.shape)
    if len(shape) != 4 or shape[1] != channels:
        raise VisionError(f"images of shape {shape}: expected [batch, {channels}, height, width]")
    if shape[2] % multiple or shape[3] % multiple or not (shape[2] and shape[3]):
        raise VisionError(f"images of {shape[2]} x {shape[3]} pixels: both sides must be multiples of {multiple}")
    if not torch.is_floating_point(images_BCHW):
        raise VisionError(f"images of {images_BCHW.dtype}: expected floating point")


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes within normalise by the batch as training does, but leave the running statistics as they are.

    For passes that only look, such as FAMO's second one: with it, published code moves the statistics twice a step. A
    model in evaluation mode is not changed by a pass anyway and still uses its running statistics.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
