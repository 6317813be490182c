"""SegNet with one head a task (Badrinarayanan et al. 2017; in the size of Liu et al. 2019, arXiv 1803.10704).

The encoder halves the resolution five times by max-pooling; the decoder puts each value back where the maximum was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.contract import MultiTaskModel, Outputs
from experiments_vision.models.blocks import DenseHead, check_images, conv_block, xavier

FILTERS = (64, 128, 256, 512, 512)
"""Channels of the encoder's levels, the finest first."""
DEPTHS = (1, 1, 2, 2, 2)
"""Convolutions of each level after its first one."""


class Maps(NamedTuple):
    """The trunk's maps: the encoder's with the finest level first, the decoder's with the coarsest first."""

    early: list[Tensor]  # after a level's first convolution
    encoded: list[Tensor]  # after its last one, before it is pooled
    unpooled: list[Tensor]  # what a level of the decoder reads
    decoded: list[Tensor]  # the level's output


def decoder_channels(filters: Sequence[int]) -> list[tuple[int, int]]:
    """Channels (in, out) of the decoder's levels, the coarsest first; the finest keeps its number."""
    return list(zip(filters, (filters[0], *filters[:-1]), strict=True))[::-1]


class Trunk(nn.Module):
    """Encoder and decoder, 24,943,296 parameters at full size."""

    def __init__(self, filters: Sequence[int] = FILTERS) -> None:
        super().__init__()
        upward = decoder_channels(filters)
        self.enter = nn.ModuleList(conv_block(*pair) for pair in zip((3, *filters[:-1]), filters, strict=True))
        self.encode = nn.ModuleList(_repeat(width, depth) for width, depth in zip(filters, DEPTHS, strict=True))
        self.leave = nn.ModuleList(conv_block(*pair) for pair in upward)
        decoder = zip(upward, DEPTHS[::-1], strict=True)
        self.decode = nn.ModuleList(_repeat(width, depth) for (_, width), depth in decoder)
        xavier(self)

    def forward(self, images_BCHW: Tensor) -> Maps:
        """All maps of a batch [B, 3, H, W].

        Raises:
            VisionError: if a side of the images is no multiple of 32.
        """
        check_images(images_BCHW, channels=3, multiple=2 ** len(self.enter))
        maps, places = Maps([], [], [], []), []
        x = images_BCHW
        for enter, encode in zip(self.enter, self.encode, strict=True):
            maps.early.append(enter(x))
            maps.encoded.append(encode(maps.early[-1]))
            x, place = F.max_pool2d_with_indices(maps.encoded[-1], (2, 2))
            places.append(place)
        for leave, decode in zip(self.leave, self.decode, strict=True):
            maps.unpooled.append(F.max_unpool2d(x, places.pop(), (2, 2)))
            x = decode(leave(maps.unpooled[-1]))
            maps.decoded.append(x)
        return maps


class SegNet(MultiTaskModel):
    """One trunk, one head a task; the features are the decoder's last map.

    Outputs: `segmentation` log-probabilities [B, classes, H, W]; `depth` [B, 1, H, W]; `normal` unit vectors
    [B, 3, H, W].

    Tasks are among segmentation (of so many classes), depth and normal; smaller `filters`, the levels' channels, make a
    smaller network.

    Raises:
        VisionError: for an unknown task; in `forward`, if a side of the images is no multiple of 32.
    """

    def __init__(self, tasks: Sequence[str], classes: int, filters: Sequence[int] = FILTERS) -> None:
        super().__init__(tasks)
        self.trunk = Trunk(filters)
        self.heads = nn.ModuleList(DenseHead(task, filters[0], classes) for task in self.tasks)

    def forward(self, inputs: Tensor) -> Outputs:
        """Predictions for images [B, 3, H, W]."""
        last = self.trunk(inputs).decoded[-1]
        return Outputs([head(last) for head in self.heads], (last,))


def _repeat(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(conv_block(width, width) for _ in range(depth)))
