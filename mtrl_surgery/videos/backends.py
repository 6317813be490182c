"""Which of MuJoCo's ways to draw works on this machine.

A way that does not work may end the process, or leave it unable to try another, so that each is tried in a process of
its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

BACKENDS: Final = ("egl", "osmesa", "glfw")
"""EGL draws on a GPU or in software, OSMesa in software, GLFW on a screen."""

ADVICE: Final = (
    "install software rendering with `apt-get install -y libegl1 libgl1 libosmesa6` (no screen and no GPU needed), "
    "then try again"
)
_TIMEOUT_S = 120.0

_TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='1' rgba='1 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    picture = renderer.render()
raise SystemExit(0 if picture.max() > picture.min() else "the picture is empty")
"""


class RenderingError(RuntimeError):
    """Nothing can be drawn on this machine, or the drawing failed."""


class MissingError(RenderingError, ValueError):
    """A library for drawing or encoding is not installed: there is nothing wrong with the run."""


def find_backend(backends: Sequence[str] = BACKENDS) -> str:
    """The first value of MUJOCO_GL with which a sphere is drawn; one that the user has set is the only one tried.

    Raises:
        MissingError: None works; says why for each, and what to install.
    """
    chosen = os.environ.get("MUJOCO_GL")
    failures = {}
    for backend in [chosen] if chosen else backends:
        problem = try_backend(backend)
        if problem is None:
            return backend
        failures[backend] = problem
    reasons = "".join(f"\n  MUJOCO_GL={backend}: {problem}" for backend, problem in failures.items())
    hint = "; or unset MUJOCO_GL, so that the others are tried" if chosen else ""
    raise MissingError(f"MuJoCo cannot draw on this machine:{reasons}\n{ADVICE}{hint}")


def try_backend(backend: str) -> str | None:
    """None if a sphere can be drawn with MUJOCO_GL=`backend`, else why not, in a line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            env=with_backend(backend),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    # Destructors complain after the error itself, with lines that are no reason.
    errors = [line for line in done.stderr.splitlines() if "Error" in line and not line.startswith(" ")]
    return (errors or done.stderr.splitlines() or [f"exit code {done.returncode}"])[0].strip()


def with_backend(backend: str | None) -> dict[str, str]:
    """This process's environment for one that draws: with the backend for MuJoCo, where there is one."""
    environment = {"SDL_VIDEODRIVER": "dummy", **os.environ}  # pygame is not to look for a screen
    if backend is None:
        return environment
    environment["MUJOCO_GL"] = backend
    # PyOpenGL must agree, or it loads what drives a screen.
    if backend in ("egl", "osmesa"):
        environment["PYOPENGL_PLATFORM"] = backend
    return environment
