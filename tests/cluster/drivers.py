"""Drivers in processes of their own, forked from a server that has imported torch and Ray, to be killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.folder import read_rows
from mtrl_surgery.runs.signals import Interrupted
from tests.cluster.parts import factory_suite
from tests.cluster.runs import SCHEDULE, Setup, rows_of, train
from tests.cluster.toys import trap

TOYS = "tests.cluster.toys:make"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.cluster.drivers", "cluster.raycollector"])


def slow_setup(folder: Path, kind: str = "slow", tasks: int = 3, total: int = 200) -> Setup:
    """A run that lasts some seconds because its simulators take their time, unless the file `folder/quick` is there."""
    names = [trap(f"{kind}.{number}", 0, folder / "quick") for number in range(tasks)]
    schedule = replace(SCHEDULE, total_steps=total, checkpoint_every=60, final_episodes=2)
    return Setup(factory_suite(TOYS, names), schedule=schedule, copies=1)


def undisturbed_rows(setup: Setup, folder: Path, name: str) -> dict[str, bytes]:
    """Those of the same run in one process, without its simulators' pauses."""
    (folder / "quick").touch()
    try:
        return rows_of(train(setup, folder, name))
    finally:
        (folder / "quick").unlink()


@dataclass
class Driver:
    """A run that goes on in another process."""

    process: Any
    path: Path

    def rows(self, name: str = "health") -> list[dict[str, Any]]:
        file = self.path / f"{name}.jsonl"
        return read_rows(file) if file.exists() else []

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row.get("event") == kind]

    def until(self, happened: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait for something to become true while the run goes on, and return it."""
        deadline = time.monotonic() + seconds
        while not (value := happened()):
            assert self.process.is_alive(), f"the run ended (exit code {self.process.exitcode}) before it happened"
            assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
            time.sleep(0.02)
        return value

    def until_step(self, step: int) -> None:
        self.until(lambda: any(row["step"] >= step for row in self.rows("metrics")))

    def finish(self, seconds: float = 240.0) -> int:
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the run still goes on"
        return int(self.process.exitcode)


def launch(setup: Setup, out: Path, name: str) -> Driver:
    """Start a run's driver."""
    process = _CONTEXT.Process(target=_drive, args=(setup, out, name), daemon=True)
    process.start()
    return Driver(process, out / name)


def _drive(setup: Setup, out: Path, name: str) -> None:
    # The nodes have the repository in their import path, as those of a submitted job have: nothing to ship.
    os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = "{}"
    try:
        train(setup, out, name)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
