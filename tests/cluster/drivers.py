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
from mtrl_surgery.runs.signals import Interrupted, exit_when_told
from tests.cluster.parts import factory_suite
from tests.cluster.runs import SCHEDULE, Setup, rows_of, train
from tests.cluster.toys import trap

TOYS = "tests.cluster.toys:make"
TRAIN = [sys.executable, "-m", "mtrl_surgery", "train"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.cluster.drivers", "cluster.workers.collector"])


def slow_setup(folder: Path, tasks: int, total: int) -> Setup:
    """A run whose simulators take their time until the file `folder/quick` is there."""
    names = [trap(f"slower.{number}", 0, folder / "quick") for number in range(tasks)]
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
    quick: Path

    def rows(self, name: str = "health") -> list[dict[str, Any]]:
        file = self.path / f"{name}.jsonl"
        return read_rows(file) if file.exists() else []

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row.get("event") == kind]

    def until(self, happened: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait for something to become true while the run goes on, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            alive = self.process.is_alive()  # asked first: it may happen just before the end
            if value := happened():
                return value
            assert alive, f"the run ended (exit code {self.process.exitcode}) before it happened"
            assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
            time.sleep(0.02)

    def until_step(self, step: int) -> None:
        self.until(lambda: any(row["step"] >= step for row in self.rows("metrics")))

    def finish(self, seconds: float = 240.0) -> int:
        """What was waited for has happened: have the simulators make no more pauses, and the run end."""
        self.quick.touch()
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the run still goes on"
        return int(self.process.exitcode)


def launch(setup: Setup, out: Path, name: str) -> Driver:
    """Start a run's driver; the simulators of a `slow_setup` there are slow until `finish`."""
    quick = out / "quick"
    quick.unlink(missing_ok=True)
    process = _CONTEXT.Process(target=_drive, args=(setup, out, name), daemon=True)
    process.start()
    return Driver(process, out / name, quick)


def command(setup: Setup, out: Path, *cluster: str) -> list[str]:
    """The command line of the same run, where the words for its cluster say."""
    agent, schedule = setup.agent, setup.schedule
    words = {
        "env.kind": "factory", "env.name": "own", "env.factory": TOYS, "env.horizon": setup.suite.horizon,
        "env.tasks": "[" + ",".join(f"'{task}'" for task in setup.suite.tasks) + "]",
        "method": setup.method, "seed": setup.seed, "env.copies": setup.copies, "device": "cpu", "threads": 1,
        "agent.hidden_sizes": "[16,16]", "agent.batch_size": agent.batch_size, "diagnostics.every": 7,
        "agent.warmup_steps": agent.warmup_steps, "agent.updates_per_step": agent.updates_per_step,
        "total_steps": schedule.total_steps, "log_every": schedule.log_every, "out": out,
        "checkpoint.every": schedule.checkpoint_every, "evaluation.every": schedule.evaluate_every,
        "evaluation.episodes": schedule.evaluation_episodes, "evaluation.final_episodes": schedule.final_episodes,
        "evaluation.protocol": schedule.protocol, "cluster.chunk_steps": schedule.chunk_steps,
    }  # fmt: skip
    return [
        sys.executable,
        "-m",
        "mtrl_surgery",
        "train",
        *(f"{key}={value}" for key, value in words.items()),
        *cluster,
    ]


def kill_all() -> None:
    """End the drivers that a failed test left behind."""
    for process in _CONTEXT.active_children():
        process.kill()
        process.join()


def _drive(setup: Setup, out: Path, name: str) -> None:
    # The nodes have the repository in their import path, as those of a submitted job have: nothing to ship.
    os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = "{}"
    try:
        with exit_when_told():
            train(setup, out, name)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
