"""Frames with a label and a success mark, many in a grid, and the MP4 and GIF files that they go to."""

from __future__ import annotations

import importlib.util
import math
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

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
    for points in range(max(6, int(bar * 0.62)), 5, -1):
        font = ImageFont.load_default(size=points)
        if font.getlength(text) <= width:
            break
    return font


FORMATS: Final = ("mp4", "gif")
_GIF_SIDE = 640  # a GIF has no motion compensation: at full size it would be tens of megabytes
_GIF_FPS = 10


def check_encoder() -> None:
    """Raise MissingError if imageio-ffmpeg is not installed, before any work is done."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise MissingError(f"videos need imageio-ffmpeg, which is not installed: {install('record')}")


@contextmanager
def video_file(
    stem: Path, size: tuple[int, int], fps: float, formats: Sequence[str]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write `stem`.mp4 of `size` (width, height; both even), and a GIF made of it at the end.

    What is yielded adds a frame, uint8 [height, width, 3]. A file that is not closed cannot be played.
    """
    import imageio_ffmpeg

    video = stem.with_name(stem.name + ".mp4")
    options = ["-crf", "20", "-preset", "veryfast", "-threads", "1", "-movflags", "+faststart"]
    writer = imageio_ffmpeg.write_frames(
        str(video), size, fps=fps, macro_block_size=2, quality=None, output_params=options
    )
    writer.send(None)

    def add(pixels_HW3: np.ndarray) -> None:
        assert pixels_HW3.shape == (size[1], size[0], 3), pixels_HW3.shape
        writer.send(np.ascontiguousarray(pixels_HW3))

    try:
        yield add
    finally:
        writer.close()
    if "gif" in formats:
        _write_gif(video, stem.with_name(stem.name + ".gif"), min(fps, _GIF_FPS))
    if "mp4" not in formats:
        video.unlink()


def _write_gif(video: Path, gif: Path, fps: float) -> None:
    """Write a GIF of a video, no side above 640 pixels, in the 256 colours that suit it best."""
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
