"""Sweeps of toy runs that take their time, in drivers of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtrl_surgery.__main__ import main
from mtrl_surgery.commands.program import compose, describe
from mtrl_surgery.sweeps import SweepError
from mtrl_surgery.sweeps.folder import find
from mtrl_surgery.sweeps.standing import standing_of
from tests.cluster.drivers import TOYS
from tests.cluster.toys import trap

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = ("metrics.jsonl", "evaluations.jsonl")


@dataclass
class Sweep:
    """A sweep of seeds in a folder, and the process that drives it.

    Its simulators take their time unless the file `quick` is there.
    """

    folder: Path
    seeds: str
    kind: str = "slower"
    steps: int = 200
    words: tuple[str, ...] = ()
    process: Any = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "runs"

    def run_words(self, out: Path) -> list[str]:
        tasks = [trap(f"{self.kind}.{number}", 20, self.folder / "quick") for number in range(2)]
        return [
            "env=factory", f"env.factory={TOYS}", "env.name=own", "env.horizon=40",
            "env.tasks=[" + ",".join(f"'{task}'" for task in tasks) + "]",
            "method=pcgrad", "agent.hidden_sizes=[16,16]", "agent.batch_size=8", "agent.warmup_steps=40",
            "agent.updates_per_step=0.5", "agent.replay_capacity=1000", f"total_steps={self.steps}", "log_every=30",
            "checkpoint.every=40", "evaluation.every=100", "evaluation.episodes=1", "evaluation.final_episodes=1",
            "cluster.chunk_steps=20", "logger=none", "device=cpu", "threads=1", f"out={out}",
        ]  # fmt: skip

    def command(self) -> list[str]:
        words = [*self.run_words(self.out), f"seed={self.seeds}", "sweep.report=false", *self.words]
        return [sys.executable, "-m", "mtrl_surgery", "train", "-m", *words]

    def undisturbed(self, seed: int) -> Path:
        """The same run by the plain command, in this process."""
        (self.folder / "quick").touch()
        try:
            words = self.run_words(self.folder / "undisturbed")
            assert main(["train", *words, "cluster=inline", f"seed={seed}", "logger.console=false"]) == 0
        finally:
            (self.folder / "quick").unlink()
        (path,) = (self.folder / "undisturbed").glob(f"*_s{seed}_*")
        return path

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=os.environ | self.environment
        )

    def path(self, seed: int) -> Path:
        """The folder of a run, which may not be there yet."""
        (run,) = [one for one in find(str(self.out)).read().runs if one.label == f"seed={seed}"]
        return run.folder

    def states(self, *seeds: int) -> list[str]:
        return [standing_of(self.path(seed)).state for seed in seeds]

    def until(self, happened: Callable[[], Any], seconds: float = 120.0) -> Any:
        """Wait for something to become true while the sweep goes on, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if value := happened():
                    return value
            except SweepError:
                pass  # no table yet
            assert self.process.poll() is None, f"the sweep ended before it happened:\n{self.process.stderr.read()}"
            assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
            time.sleep(0.05)

    def name(self, seed: int) -> str:
        """What the run's folder will be called."""
        return describe(compose([*self.run_words(self.out), "cluster=inline", f"seed={seed}"]), True).folder.name

    def begun(self) -> list[int]:
        """Seeds of the runs that go on and have a checkpoint."""
        return [
            int(run.label.removeprefix("seed="))
            for run in find(str(self.out)).read().runs
            if standing_of(run.folder).state == "running" and list(run.folder.glob("checkpoints/step-*"))
        ]

    def finish(self, seconds: float = 240.0) -> tuple[int, str]:
        """The exit code, and what was said."""
        _, said = self.process.communicate(timeout=seconds)
        return int(self.process.returncode), str(said)

    def end(self) -> None:
        """For a test that failed."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def same_rows(left: Path, right: Path) -> bool:
    """Whether two runs have the same rows, to the bit."""
    return all((left / name).read_bytes() == (right / name).read_bytes() != b"" for name in ROWS)
