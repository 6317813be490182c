"""Pictures of a simulator: Meta-World's through MuJoCo, others by their own `render()`.

Importing this module loads nothing that draws; MUJOCO_GL must be set before `mujoco` is imported in the process.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from envs.config import EnvConfig, EnvError, unknown
from envs.suite import TaskEnvironment, TaskSuite

CAMERAS: Final = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
"""Meta-World's cameras."""


class Camera(Protocol):
    """Takes pictures of one simulator; close it before another of the same process is opened."""

    def __call__(self) -> np.ndarray:
        """The simulator as it is now: uint8 [height, width, 3], the right way up."""
        ...

    def close(self) -> None:
        """Frees what draws; the simulator stays."""
        ...


def drawable_suite(suite: TaskSuite, config: EnvConfig) -> TaskSuite:
    """The suite with simulators that `open_camera` can photograph."""
    if config.kind == "metaworld":
        return suite
    return replace(suite, factory=partial(suite.factory, render_mode="rgb_array"))  # type: ignore[call-arg]


def open_camera(environment: TaskEnvironment, task: str, name: str, size: tuple[int, int]) -> Camera:
    """A camera on one simulator of a `drawable_suite`.

    Args:
        environment: The simulator.
        task: Its name, for errors.
        name: One of `CAMERAS`; only Meta-World has a choice.
        size: Width and height in pixels; a task that is not Meta-World's has a size of its own.

    Raises:
        EnvError: An unknown camera, or an environment that gives no pictures.
    """
    simulator = environment.simulator  # type: ignore[attr-defined]
    if hasattr(simulator, "reward_function_version"):
        return _MuJoCoCamera(simulator, name, size)
    if simulator.render_mode != "rgb_array":
        raise EnvError(
            f"task {task!r} gives no pictures: its render_mode is {simulator.render_mode!r}, not 'rgb_array'; it knows "
            f"{list(simulator.metadata.get('render_modes', []))}, and a factory may take the argument render_mode"
        )
    return _OwnCamera(simulator, task)


class _MuJoCoCamera:
    """A camera of a Meta-World scene."""

    def __init__(self, simulator: Any, name: str, size: tuple[int, int]) -> None:
        if name not in CAMERAS:
            raise EnvError(unknown("camera", name, CAMERAS))
        import mujoco

        model = simulator.model
        # The scene's own buffer is 640 x 480; a larger picture would be refused.
        model.vis.global_.offwidth = max(size[0], model.vis.global_.offwidth)
        model.vis.global_.offheight = max(size[1], model.vis.global_.offheight)
        self._simulator, self._camera = simulator, model.camera(name).id
        self._renderer = mujoco.Renderer(model, height=size[1], width=size[0])
        # Shadows and reflections draw the scene again, which triples the time of a renderer without a GPU.
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def __call__(self) -> np.ndarray:
        data = self._simulator.data
        self._renderer.update_scene(data, camera=self._camera)
        pixels_HW3: np.ndarray = self._renderer.render()
        # The corner cameras are mounted head down. A half turn rights the picture; a flip would mirror the scene.
        up = data.cam_xmat[self._camera].reshape(3, 3)[2, 1]
        return np.ascontiguousarray(pixels_HW3[::-1, ::-1]) if up < -0.1 else pixels_HW3

    def close(self) -> None:
        self._renderer.close()


class _OwnCamera:
    """The environment's own `render()`."""

    def __init__(self, simulator: Any, task: str) -> None:
        self._simulator, self._task = simulator, task

    def __call__(self) -> np.ndarray:
        pixels_HW3 = np.asarray(self._simulator.render())
        if pixels_HW3.dtype != np.uint8 or pixels_HW3.ndim != 3 or pixels_HW3.shape[2] != 3:
            found = f"{pixels_HW3.dtype} {pixels_HW3.shape}"
            raise EnvError(f"task {self._task!r} rendered {found}, not a uint8 picture [height, width, 3]")
        return pixels_HW3

    def close(self) -> None:
        """The environment frees its own."""
