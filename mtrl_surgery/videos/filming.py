"""The evaluation of tasks, filmed side by side: the same episodes, to the bit, as `evaluate` plays."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation import PROTOCOLS, TaskEvaluation, evaluate_task
from envs.rendering import open_camera
from envs.suite import Step, TaskEnvironment, TaskSuite
from mtrl_surgery.runs.console import Progress
from mtrl_surgery.videos.backends import RenderingError, with_backend
from mtrl_surgery.videos.frames import fit, grid, label, video_file


@dataclasses.dataclass(frozen=True)
class Shooting:
    """A recording to make; it is pickled to the processes that film."""

    suite: TaskSuite  # drawable
    policy_factory: Callable[[], Any]
    weights_P: np.ndarray
    episodes: int  # a task, one after the other in its video
    protocol: str
    seed: int  # of the evaluation's streams
    camera: str  # Meta-World's
    size: tuple[int, int]  # width and height of a frame
    tile: tuple[int, int]  # of a mosaic's tile
    every: int  # steps from one frame to the next
    fps: float
    formats: tuple[str, ...]  # file suffixes
    folder: Path

    def stem(self, task: int) -> Path:
        """The path of a task's video without its suffix; the number keeps the order, and names apart."""
        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self.suite.tasks[task])
        return self.folder / f"{task:02d}-{name}"

    def tiles(self, task: int) -> Path:
        """Where the task's small frames wait for the mosaic."""
        return self.folder / f".tiles-{task:02d}"


def _film_task(shooting: Shooting, task: int) -> TaskEvaluation:
    """Play one task's episodes and write its video and its tiles."""
    policy = shooting.policy_factory()
    policy.load(shooting.weights_P)
    name = shooting.suite.tasks[task]

    with (
        ExitStack() as opened,
        video_file(shooting.stem(task), shooting.size, shooting.fps, shooting.formats) as add,
        shooting.tiles(task).open("wb") as tiles,
    ):

        def show(pixels_HW3: np.ndarray, text: str, success: bool) -> None:
            add(label(fit(pixels_HW3, shooting.size), f"{name}  {text}", success))
            tiles.write(label(fit(pixels_HW3, shooting.tile), name, success).tobytes())
            with _counter.get_lock():
                _counter.value += 1

        def make(index: int, horizon: int | None) -> TaskEnvironment:
            environment = shooting.suite.make(index, horizon)
            opened.callback(environment.close)
            camera = open_camera(environment, name, shooting.camera, shooting.size)
            opened.callback(camera.close)  # two contexts of one process would draw into each other
            return _Filmed(environment, camera, shooting.every, show)

        suite = dataclasses.replace(shooting.suite, factory=make)
        return evaluate_task(suite, task, policy.mode, shooting.episodes, shooting.protocol, shooting.seed)


class _Filmed:
    """A simulator that shows its start, every n-th step and its end."""

    def __init__(
        self,
        environment: TaskEnvironment,
        camera: Callable[[], np.ndarray],
        every: int,
        show: Callable[[np.ndarray, str, bool], None],
    ) -> None:
        self._environment, self._camera, self._every, self._show = environment, camera, every, show
        self._episode = self._steps = 0
        self._goal: int | None = None
        self._success = False

    def reset(self, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
        obs_O = self._environment.reset(seed, goal)
        self._goal, self._steps, self._success = goal, 0, False
        self._episode += 1
        self._film()
        return obs_O

    def step(self, action_A: np.ndarray) -> Step:
        step = self._environment.step(action_A)
        self._steps += 1
        self._success |= step.success
        if self._steps % self._every == 0 or step.terminated or step.truncated:
            self._film()
        return step

    def close(self) -> None:
        self._environment.close()

    def _film(self) -> None:
        self._show(self._camera(), f"episode {self._episode}  goal {self._goal}  step {self._steps}", self._success)


_POLL_S = 0.25
_counter: Any = None  # in a filming process: frames done by all of them


def film(shooting: Shooting, tasks: Sequence[int], workers: int, backend: str | None) -> list[TaskEvaluation]:
    """Film the tasks by `workers` processes, with progress on stderr.

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
    rules = PROTOCOLS[shooting.protocol]
    episodes = len(tasks) * min(shooting.episodes, rules.max_episodes or shooting.episodes)
    pictures = 1 + math.ceil((rules.steps or shooting.suite.horizon) / shooting.every)
    progress = Progress(episodes * pictures, updates=None, unit="frames")
    before = dict(os.environ)
    os.environ.update(with_backend(backend))
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (frames,))
    try:
        jobs = [pool.submit(_film_task, shooting, task) for task in tasks]
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
    with video_file(shooting.folder / "mosaic", size, shooting.fps, shooting.formats) as add:
        for frame in range(longest):
            add(grid([film_THW3[min(frame, len(film_THW3) - 1)] for film_THW3 in films_THW3]))


def free_folder(folder: Path) -> Path:
    """The folder, or the first of `folder`-2, -3, ... that is not there yet: no recording takes another's place."""
    names = (folder if number == 1 else folder.with_name(f"{folder.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _start(counter: Any) -> None:
    import torch

    global _counter
    _counter = counter
    torch.set_num_threads(1)  # the tasks share the cores already
