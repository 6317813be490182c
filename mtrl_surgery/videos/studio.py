"""Tasks filmed by processes side by side, then their mosaic."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation import PROTOCOLS, TaskEvaluation
from mtrl_surgery.runs.console import Progress
from mtrl_surgery.videos.backends import RenderingError, with_backend
from mtrl_surgery.videos.drawing import grid
from mtrl_surgery.videos.encoding import VideoFile
from mtrl_surgery.videos.filming import Shooting, film_task

_POLL_S = 0.25
_counter: Any = None  # in a filming process: frames done by all of them


def film(shooting: Shooting, tasks: Sequence[int], workers: int, backend: str | None) -> list[TaskEvaluation]:
    """Films the tasks, with progress on stderr.

    Args:
        shooting: The recording.
        tasks: Indices of the tasks.
        workers: Processes.
        backend: MUJOCO_GL in them; None leaves theirs as it is here.

    Raises:
        RenderingError: A process died.
        EnvironmentFailure: A simulator or its camera failed.
    """
    # New interpreters: MUJOCO_GL counts only where mujoco was not imported yet, and a crash of a driver stays theirs.
    context = multiprocessing.get_context("spawn")
    frames = context.Value("q", 0)
    total = len(tasks) * _frames_of_task(shooting)
    progress = Progress(total, updates=None, unit="frames")
    before = dict(os.environ)
    os.environ.update(with_backend(backend))
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (frames,))
    try:
        jobs = [pool.submit(_film, shooting, task) for task in tasks]
        waiting, done = set(jobs), []
        while waiting:
            finished, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
            done += [job.result() for job in finished]
            if done:
                progress.evaluated(float(np.mean([row.successes_any / row.episodes for row in done])))
            progress.update(frames.value)
        progress.close()
        return [job.result() for job in jobs]
    except BrokenProcessPool as error:
        raise RenderingError(
            f"a filming process died (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): set MUJOCO_GL to another way to draw "
            f"(egl, osmesa, glfw) and try again"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        os.environ.clear()
        os.environ.update(before)


def write_mosaic(shooting: Shooting, tasks: Sequence[int]) -> None:
    """One video of all tasks in a grid, out of the tiles that `film` left; a task that ended shows its last frame."""
    width, height = shooting.tile
    films_THW3 = [np.memmap(shooting.tiles(task), np.uint8, "r").reshape(-1, height, width, 3) for task in tasks]
    longest = max(map(len, films_THW3))
    first = grid([film_THW3[0] for film_THW3 in films_THW3])
    size = first.shape[1], first.shape[0]
    with VideoFile(shooting.folder / "mosaic", size, shooting.fps, shooting.formats) as video:
        for frame in range(longest):
            video.add(grid([film_THW3[min(frame, len(film_THW3) - 1)] for film_THW3 in films_THW3]))


def free_folder(folder: Path) -> Path:
    """The folder, or the first of `folder`-2, -3, ... that is not there yet: no recording takes another's place."""
    names = (folder if number == 1 else folder.with_name(f"{folder.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _frames_of_task(shooting: Shooting) -> int:
    rules = PROTOCOLS[shooting.protocol]
    episodes = min(shooting.episodes, rules.max_episodes or shooting.episodes)
    return episodes * (1 + math.ceil((rules.steps or shooting.suite.horizon) / shooting.every))


def _start(counter: Any) -> None:
    import torch

    global _counter
    _counter = counter
    torch.set_num_threads(1)  # the tasks share the cores already


def _count_frame() -> None:
    with _counter.get_lock():
        _counter.value += 1


def _film(shooting: Shooting, task: int, count_frame: Callable[[], None] = _count_frame) -> TaskEvaluation:
    return film_task(shooting, task, count_frame)
