"""The evaluation of one task, filmed: the same episodes, to the bit, as `evaluate` plays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation import TaskEvaluation, evaluate_task
from envs.rendering import open_camera
from envs.suite import Step, TaskEnvironment, TaskSuite
from mtrl_surgery.videos.drawing import fit, label
from mtrl_surgery.videos.encoding import VideoFile


@dataclasses.dataclass(frozen=True)
class Shooting:
    """A recording to make; it is pickled to the processes that film.

    Attributes:
        suite: The tasks, drawable.
        policy_factory: Makes a policy with `load(weights)` and `mode`.
        weights_P: The policy's weights.
        episodes: A task, one after the other in its video.
        protocol: The evaluation protocol.
        seed: Of the evaluation's streams.
        camera: Meta-World's camera.
        size: Width and height of a frame.
        tile: Width and height of a mosaic's tile.
        every: Steps from one frame to the next.
        fps: Frames a second of the videos.
        formats: File suffixes.
        folder: Where the files go.
    """

    suite: TaskSuite
    policy_factory: Callable[[], Any]
    weights_P: np.ndarray
    episodes: int
    protocol: str
    seed: int
    camera: str
    size: tuple[int, int]
    tile: tuple[int, int]
    every: int
    fps: float
    formats: tuple[str, ...]
    folder: Path

    def stem(self, task: int) -> Path:
        """The path of a task's video without its suffix; the number keeps the order, and names apart."""
        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self.suite.tasks[task])
        return self.folder / f"{task:02d}-{name}"

    def tiles(self, task: int) -> Path:
        """Where the task's small frames wait for the mosaic."""
        return self.folder / f".tiles-{task:02d}"


def film_task(shooting: Shooting, task: int, count_frame: Callable[[], None]) -> TaskEvaluation:
    """Plays one task's episodes and writes its video and its tiles.

    Args:
        shooting: The recording.
        task: Index of the task.
        count_frame: Called at each frame.

    Raises:
        EnvironmentFailure: The simulator or its camera failed.
    """
    policy = shooting.policy_factory()
    policy.load(shooting.weights_P)
    name = shooting.suite.tasks[task]

    with (
        ExitStack() as opened,
        VideoFile(shooting.stem(task), shooting.size, shooting.fps, shooting.formats) as video,
        shooting.tiles(task).open("wb") as tiles,
    ):

        def show(pixels_HW3: np.ndarray, text: str, success: bool) -> None:
            video.add(label(fit(pixels_HW3, shooting.size), f"{name}  {text}", success))
            tiles.write(label(fit(pixels_HW3, shooting.tile), name, success).tobytes())
            count_frame()

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
