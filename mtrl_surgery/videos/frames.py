"""Frames with a label and a success mark, many in a grid, and the MP4 and GIF files that they go to."""

from __future__ import annotations

import importlib.util
import math
import subprocess
from collections.abc import Generator, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtrl_surgery.shell import install
from mtrl_surgery.videos.backends import MissingError, RenderingError

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


FORMATS: Final = ("mp4", "gif")
_GIF_SIDE = 640  # a GIF has no motion compensation: at full size it would be tens of megabytes
_GIF_FPS = 10


def check_encoder() -> None:
    """Fail before any work does.

    Raises:
        MissingError: imageio-ffmpeg is not installed.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise MissingError(f"videos need imageio-ffmpeg, which is not installed: {install('record')}")


class VideoFile:
    """A video that grows by frames; a context, since a file that is not closed cannot be played."""

    def __init__(self, stem: Path, size: tuple[int, int], fps: float, formats: Sequence[str]) -> None:
        """Starts `stem`.mp4; a GIF is made of it at the end.

        Args:
            stem: The file's path without its suffix.
            size: Width and height in pixels, both even.
            fps: Frames a second.
            formats: Some of `FORMATS`.
        """
        self._video, self._gif = stem.with_name(stem.name + ".mp4"), stem.with_name(stem.name + ".gif")
        self._formats, self._size, self._fps = formats, size, fps
        self._writer: Generator[None, Any, None] | None = None

    def __enter__(self) -> Self:
        import imageio_ffmpeg

        options = ["-crf", "20", "-preset", "veryfast", "-threads", "1", "-movflags", "+faststart"]
        self._writer = imageio_ffmpeg.write_frames(
            str(self._video), self._size, fps=self._fps, macro_block_size=2, quality=None, output_params=options
        )
        self._writer.send(None)
        return self

    def add(self, pixels_HW3: np.ndarray) -> None:
        """One more frame, uint8 [height, width, 3]."""
        assert self._writer is not None and pixels_HW3.shape == (self._size[1], self._size[0], 3), pixels_HW3.shape
        self._writer.send(np.ascontiguousarray(pixels_HW3))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._writer is not None
        self._writer.close()
        if kind is not None:
            return
        if "gif" in self._formats:
            write_gif(self._video, self._gif, min(self._fps, _GIF_FPS))
        if "mp4" not in self._formats:
            self._video.unlink()


def write_gif(video: Path, gif: Path, fps: float) -> None:
    """A GIF of a video, no side above 640 pixels, in the 256 colours that suit it best.

    Raises:
        RenderingError: ffmpeg failed.
    """
    palette = gif.with_name(f".{gif.name}.palette.png")
    side = _GIF_SIDE
    shrink = f"fps={fps:g},scale='min({side},iw)':'min({side},ih)':force_original_aspect_ratio=decrease:flags=lanczos"
    _ffmpeg("-i", str(video), "-vf", f"{shrink},palettegen", str(palette))
    _ffmpeg("-i", str(video), "-i", str(palette), "-lavfi", f"{shrink}[x];[x][1:v]paletteuse", str(gif))
    palette.unlink()


def _ffmpeg(*words: str) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-threads", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RenderingError(f"ffmpeg failed on {words[-1]}: {done.stderr.strip()}")
