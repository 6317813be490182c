"""MTAN, SegNet with an attention branch a task (Liu et al. 2019, arXiv 1803.10704)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.contract import MultiTaskModel, Outputs
from experiments_vision.models.blocks import DenseHead, attention, conv_block, xavier
from experiments_vision.models.segnet import FILTERS, Maps, Trunk, decoder_channels


class Branch(nn.Module):
    """One task's own part beside its head: a mask for every level of the trunk."""

    def __init__(self, filters: Sequence[int]) -> None:
        super().__init__()
        below = (0, *filters[1:])  # the first level has no map of a level above beside it
        self.down = nn.ModuleList(attention(n + extra, n) for n, extra in zip(filters, below, strict=True))
        self.up = nn.ModuleList(attention(inputs + n, n) for inputs, n in decoder_channels(filters))
        xavier(self)

    def forward(self, maps: Maps, down: Iterable[nn.Module], up: Iterable[nn.Module]) -> Tensor:
        """The task's map [B, C, H, W] at full resolution; `down` and `up` are the steps between levels."""
        x = maps.early[0]
        for level, (early, encoded, mask, step) in enumerate(
            zip(maps.early, maps.encoded, self.down, down, strict=True)
        ):
            seen = torch.cat((early, x), dim=1) if level else x
            x = F.max_pool2d(step(mask(seen) * encoded), 2)
        for unpooled, decoded, mask, step in zip(maps.unpooled, maps.decoded, self.up, up, strict=True):
            x = step(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
            x = mask(torch.cat((unpooled, x), dim=1)) * decoded
        return x


class MTAN(MultiTaskModel):
    """SegNet's trunk, and a branch and a head a task.

    The convolutions that carry a branch from level to level (`down`, `up`) are shared by all branches, each of which
    sends its own maps through them. So the shared parameters are the trunk's 24,943,296 and these 10,220,160. The
    44,117,184 that published code calls shared, for three tasks, is everything but the heads: it counts the masks as
    well, 2,984,576 a task, though one task alone reaches each.

    Outputs as `SegNet`'s. The features are the 20 maps of the trunk that the branches read. `down` and `up` are not
    behind them, nor could they be behind any: they read what a task's own masks have made. `Surgery` on the features
    gives them their tasks' gradients by the weights that the method finds there.

    Tasks are among segmentation (of so many classes), depth and normal; smaller `filters`, the levels' channels, make a
    smaller network.

    Raises:
        VisionError: for an unknown task; in `forward`, if a side of the images is no multiple of 32.
    """

    def __init__(self, tasks: Sequence[str], classes: int, filters: Sequence[int] = FILTERS) -> None:
        super().__init__(tasks)
        self.trunk = Trunk(filters)
        coarser = (*filters[1:], filters[-1])
        self.down = nn.ModuleList(conv_block(*pair) for pair in zip(filters, coarser, strict=True))
        self.up = nn.ModuleList(conv_block(*pair) for pair in decoder_channels(filters))
        xavier(self.down)
        xavier(self.up)
        self.branches = nn.ModuleList(Branch(filters) for _ in self.tasks)
        self.heads = nn.ModuleList(DenseHead(task, filters[0], classes) for task in self.tasks)

    def forward(self, inputs: Tensor) -> Outputs:
        """Predictions for images [B, 3, H, W]."""
        maps = self.trunk(inputs)
        pairs = zip(self.branches, self.heads, strict=True)
        predictions = [head(branch(maps, self.down, self.up)) for branch, head in pairs]
        return Outputs(predictions, tuple(tensor for level in maps for tensor in level))
