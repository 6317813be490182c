"""MP4 and GIF files, frame by frame, by the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from mtrl_surgery.shell import install
from mtrl_surgery.videos.backends import MissingError, RenderingError

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
