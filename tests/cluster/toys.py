"""Pendulums with a trap: real simulators that die, raise or explode when their task's name says so.

A task is `<trap>@<step>@<marker file>`: the trap springs at that step of its process's life, unless the marker file is
there; the trap that kills leaves the marker behind, so that it springs once. `<trap>.<anything>` tells tasks apart.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium


def make(task: str) -> gymnasium.Env[Any, Any]:
    return Trapped(gymnasium.make("Pendulum-v1", disable_env_checker=True), *task.split("@"))


class Trapped(gymnasium.Wrapper[Any, Any, Any, Any]):
    def __init__(self, env: gymnasium.Env[Any, Any], trap: str, step: str, marker: str) -> None:
        super().__init__(env)
        self._trap, self._step, self._marker = trap.partition(".")[0], int(step), Path(marker)
        self._steps = 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        if self._steps >= self._step and not self._marker.exists():
            match self._trap:
                case "kill":
                    self._marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                case "kill-always":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "raise":
                    raise RuntimeError("the motor burnt out")
                case "raise-once":
                    self._marker.touch()
                    raise RuntimeError("the motor got stuck")
                case "exit":
                    sys.exit(0)
                case "exit-hard":
                    os._exit(0)
                case "interrupt":
                    raise KeyboardInterrupt
                case "explode":
                    reward = 1e38
                case "slow":
                    time.sleep(0.002)
                case "slower":
                    time.sleep(0.01)
        return observation, reward, terminated, truncated, info


def trap(name: str, step: int, marker: Path) -> str:
    return f"{name}@{step}@{marker}"


class StopsOnce:
    """A factory whose first copy stops the process that unpickles it, before it can give any answer."""

    def __init__(self, factory: Any, marker: Path) -> None:
        self._factory, self._marker = factory, marker

    def __reduce__(self) -> Any:
        return stop_once, (self._factory, self._marker)

    def __call__(self, task: int, horizon: int | None) -> Any:
        return self._factory(task, horizon)


def stop_once(factory: Any, marker: Path) -> StopsOnce:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return StopsOnce(factory, marker)
