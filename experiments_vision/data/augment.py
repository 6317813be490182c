"""The augmentation of the published NYUv2 runs: scale and crop, then flip.

A crop of 1/1, 1/1.2 or 1/1.5 of the picture is scaled up to the whole. Depth is divided by the scale, as objects look
nearer. The inverse depth of Cityscapes is divided too: the published code does so, though it should be multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Place, Targets
from experiments_vision.data.source import stream

SCALES = (1.0, 1.2, 1.5)
_AUGMENT = 2  # the purpose in a data seed's streams


def augment(image_CHW: Tensor, targets: Targets, seed: int, place: Place) -> tuple[Tensor, Targets]:
    """A random scale, crop and flip: a pure function of the data's seed and the place.

    The targets are `label` int64 [H, W], `depth` [1, H, W] and, if there, `normal` [3, H, W]; the rest is float32.
    """
    rng = stream(seed, _AUGMENT, place.epoch, place.index)
    height, width = image_CHW.shape[-2:]
    scale = SCALES[rng.integers(len(SCALES))]
    rows, columns = crop_size(height, width, scale)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    image_CHW, targets = scale_crop(image_CHW, targets, scale, top, left)
    return flip(image_CHW, targets) if rng.random() < 0.5 else (image_CHW, targets)


def crop_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Rows and columns of the crop that is scaled up; at least one of each."""
    return max(int(height / scale), 1), max(int(width / scale), 1)


def scale_crop(image_CHW: Tensor, targets: Targets, scale: float, top: int, left: int) -> tuple[Tensor, Targets]:
    """Scale the crop that begins at (top, left) up to the whole: bilinear for image and normals, else nearest."""
    if scale == 1:  # both interpolations are the identity then
        return image_CHW, targets
    height, width = image_CHW.shape[-2:]
    rows, columns = crop_size(height, width, scale)
    window = (slice(None), slice(top, top + rows), slice(left, left + columns))
    smooth = [image_CHW, targets["normal"]] if "normal" in targets else [image_CHW]
    smooth_CHW = F.interpolate(torch.cat(smooth)[window][None], (height, width), mode="bilinear", align_corners=True)[0]
    label_and_depth = torch.cat([targets["label"][None].to(torch.float32), targets["depth"]])
    label_HW, depth_HW = F.interpolate(label_and_depth[window][None], (height, width), mode="nearest")[0]
    out = {"label": label_HW.to(torch.int64), "depth": depth_HW[None] / scale}
    if "normal" in targets:
        out["normal"] = smooth_CHW[3:]
    return smooth_CHW[:3], out


def flip(image_CHW: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """Mirror left and right; a normal's x points the other way then."""
    out = {name: target.flip(-1) for name, target in targets.items()}
    if "normal" in out:
        out["normal"][0].neg_()  # flip has copied
    return image_CHW.flip(-1), out
