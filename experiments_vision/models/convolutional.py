"""The networks of CelebA and MultiDigits: a trunk of plain convolutions, and a small head a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments_vision.contract import MultiTaskModel, Outputs
from experiments_vision.errors import VisionError
from experiments_vision.models.blocks import check_images

DIGITS = 10
WIDTHS = (64, 128, 128, 256, 256, 512, 512)
"""Channels of the convolutions; the resolution is halved after the 1st, 3rd and 5th."""
POOLED = (0, 2, 4)


class ConvNet(MultiTaskModel):
    """The CelebA network of FAMO (Liu et al. 2023, arXiv 2306.03792): 7 convolutions, 2 linear layers, 40 heads.

    One logit a task: yes where it is above 0, and binary cross entropy takes it as it is.

    Published code ends in a sigmoid and takes the cross entropy of that: the same function, but it loses its digits
    where the network is sure. Layers before a batch norm have no bias. The features are the last 512 numbers.

    Outputs: a tensor of logits [B] a task. `widths` are the channels of the seven convolutions; the linear layers have
    as many as the last one.

    Raises:
        VisionError: for no task; in `forward`, if a side of the images is no multiple of 8.
    """

    def __init__(self, tasks: Sequence[str], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(tasks)
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if number in POOLED:
                layers.append(nn.MaxPool2d(2))
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        for _ in range(2):
            layers += [nn.Linear(widths[-1], widths[-1], bias=False), nn.BatchNorm1d(widths[-1]), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(widths[-1], 1) for _ in self.tasks)

    def forward(self, inputs: Tensor) -> Outputs:
        """Logits for images [B, 3, H, W] (64 x 64 as published)."""
        check_images(inputs, channels=3, multiple=2 ** len(POOLED))
        last: Tensor = self.trunk(inputs)
        return Outputs([torch.squeeze(head(last), 1) for head in self.heads], (last,))


class LeNet(MultiTaskModel):
    """A small LeNet, after the two-headed one of Sener and Koltun (NeurIPS 2018, arXiv 1810.04650).

    Two convolutions and a linear layer are shared; a task adds two linear layers. The features are 50 numbers.

    Outputs: logits [B, 10] a task, for cross entropy. There is no dropout: nothing but the weights is random. `size` is
    the images' side in pixels.

    Raises:
        VisionError: for no task or a size below 4; in `forward`, for images of another size.
    """

    def __init__(self, tasks: Sequence[str], size: int) -> None:
        super().__init__(tasks)
        if size < 4:
            raise VisionError(f"size={size}: the images are halved twice, so their side must be 4 pixels at least")
        self.size = size
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 10, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(10, 20, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Flatten(), nn.Linear(20 * (size // 4) ** 2, 50), nn.ReLU(inplace=True)),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(50, 50), nn.ReLU(inplace=True), nn.Linear(50, DIGITS)) for _ in self.tasks
        )

    def forward(self, inputs: Tensor) -> Outputs:
        """Logits for images [B, 1, size, size]."""
        if inputs.ndim != 4 or tuple(inputs.shape[1:]) != (1, self.size, self.size):
            raise VisionError(f"images of shape {tuple(inputs.shape)}: expected [batch, 1, {self.size}, {self.size}]")
        last: Tensor = self.trunk(inputs)
        return Outputs([head(last) for head in self.heads], (last,))
