"""Frames with a label and a success mark, and many frames in a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GOOD, _INK, _BAR, _EMPTY = (38, 166, 91), (240, 240, 240), (24, 24, 28), (24, 24, 28)
_MOSAIC_WIDTH = 1920


def fit(pixels_HW3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at `size` (width, height), whole and in its own proportions, on a dark ground."""
    width, height = size
    if pixels_HW3.shape[:2] == (height, width):
        return pixels_HW3
    scale = min(width / pixels_HW3.shape[1], height / pixels_HW3.shape[0])
    small = max(1, round(pixels_HW3.shape[1] * scale)), max(1, round(pixels_HW3.shape[0] * scale))
    canvas = Image.new("RGB", size, _EMPTY)
    resized = Image.fromarray(pixels_HW3).resize(small, Image.Resampling.LANCZOS)
    canvas.paste(resized, ((width - small[0]) // 2, (height - small[1]) // 2))
    return np.asarray(canvas)


def label(pixels_HW3: np.ndarray, text: str, success: bool) -> np.ndarray:
    """A copy with a bar on top that holds the text and, after a success, a tick; a success frames the picture too."""
    height, width = pixels_HW3.shape[:2]
    bar = max(12, height // 14)
    image = Image.fromarray(pixels_HW3).copy()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, bar), fill=_BAR)
    font = _font_for(text, width - bar - 6, bar)
    draw.text((4, bar / 2), text, fill=_INK, font=font, anchor="lm")
    if success:
        edge = max(2, height // 120)
        draw.rectangle((0, 0, width - 1, height - 1), outline=_GOOD, width=edge)
        left, top, side = width - bar, 0, bar
        draw.rectangle((left, top, width, side), fill=_GOOD)
        tick = [(left + x * side, top + y * side) for x, y in ((0.22, 0.55), (0.42, 0.75), (0.8, 0.28))]
        draw.line(tick, fill=(255, 255, 255), width=max(2, side // 8), joint="curve")
    return np.asarray(image)


def tile_size(tasks: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of one tile: the frame's own, or less where the whole mosaic would be too wide; both even."""
    scale = min(1.0, _MOSAIC_WIDTH / (columns(tasks) * size[0]))
    return even(size[0] * scale), even(size[1] * scale)


def columns(tasks: int) -> int:
    """Tiles side by side: the grid is as square as can be."""
    return math.ceil(math.sqrt(tasks))


def even(pixels: float) -> int:
    """Rounded down to an even number, which the H.264 colour format needs; at least 2."""
    return max(2, int(pixels) // 2 * 2)


def grid(tiles_HW3: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of one size, row by row; the places left over are dark."""
    height, width = tiles_HW3[0].shape[:2]
    across = columns(len(tiles_HW3))
    down = math.ceil(len(tiles_HW3) / across)
    whole_HW3 = np.empty((down * height, across * width, 3), np.uint8)
    whole_HW3[:] = _EMPTY
    for place, tile_HW3 in enumerate(tiles_HW3):
        row, column = divmod(place, across)
        whole_HW3[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile_HW3
    return whole_HW3


@lru_cache(maxsize=256)
def _font_for(text: str, width: int, bar: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font that fits the bar."""
    points = max(6, int(bar * 0.62))
    while points > 6 and _font(points).getlength(text) > width:
        points -= 1
    return _font(points)


@lru_cache(maxsize=64)
def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=points)
