"""`chaos`: when a run has recovered, which transitions are lost or there twice; and a run with faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.chaos import Outcome, report
from benchmarks.chaos.counts import Counts, count
from benchmarks.chaos.faults import (
    TARGETS,
    Fault,
    learners_recovered,
    worker_joined,
    workers_recovered,
)
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.runs.checkpoint import CheckpointStore, Segment
from tests.commands.conftest import Run


def row(event: str, time: float, worker: int = 0, pid: int | None = None, tasks: list[int] | None = None) -> Any:
    facts = {} if pid is None else {"pid": pid, "tasks": [0] if tasks is None else tasks}
    return {"event": event, "time": time, "worker": worker, **facts}


def test_a_worker_has_recovered_when_its_tasks_have_delivered_again() -> None:
    fault = Fault("two workers, and one that still starts", 10.0, (100, 200, 400))
    joined = [row("worker joined", 5.0, worker, pid) for worker, pid in enumerate((300, 100, 200))]
    rows = [*joined, row("recovered", 9.0, 1), row("worker replaced", 11.0, 1, 100), row("recovered", 12.5, 1)]
    assert workers_recovered(fault, rows) is None, "nothing is known of the other one"
    rows += [row("worker left", 13.0, 2, 200), row("recovered", 13.5, 1)]
    assert workers_recovered(fault, rows) is None
    rows += [row("recovered", 14.0, 2), row("worker replaced", 15.0, 2, 200)]
    assert workers_recovered(fault, rows) == 14.0
    anew = [*rows[:4], row("learners restarted", 16.0), row("checkpoint", 17.0)]
    assert workers_recovered(fault, anew) is None and learners_recovered(fault, anew) is None
    anew.append({"time": 18.0, "updates_per_s": 3.0})
    assert workers_recovered(fault, anew) == learners_recovered(fault, anew) == 18.0, "all workers are new"
    assert learners_recovered(Fault("a learner", 16.5), anew) is None, "that was before"
    idle = [*joined, row("worker replaced", 11.0, 0, 300, tasks=[])]
    assert workers_recovered(Fault("a worker without tasks", 10.0, (300,)), idle) == 11.0
    assert workers_recovered(Fault("a node without workers", 10.0), []) == 10.0


def test_a_node_was_added_when_a_worker_joined_after_it() -> None:
    rows = [row("worker joined", 9.0, 1, 1), row("worker joined", 12.0, 2, 2)]
    assert worker_joined(Fault("node added", 10.0), rows[:1]) is None
    assert worker_joined(Fault("node added", 10.0), rows) == 12.0
    states = [{"time": at, "rollout_workers": [{"state": "ready"}, {"state": state}]} for at, state in
              ((9.5, "ready"), (10.5, "starting"), (11.0, "ready"))]  # fmt: skip
    assert worker_joined(Fault("node added", 10.0), states[:2]) is None
    assert worker_joined(Fault("a node that nobody waited for", 10.0), states) == 11.0


def saved(path: Path, rows_KRD: np.ndarray, updates: int) -> Path:
    """A run whose newest checkpoint has these transitions."""
    store = CheckpointStore(path / "checkpoints", keep=1)
    half = rows_KRD.shape[1] // 2
    segments: list[Segment] = [
        store.write_segment(start, stop, {"rows": np.ascontiguousarray(rows_KRD[:, start:stop])})
        for start, stop in ((0, half), (half, rows_KRD.shape[1]))
    ]
    limiter = {"ratio": "1/2", "warmup_steps": 2, "burst": False, "updates": updates}
    store.save(1, {"limiter": limiter}, segments)
    return path


def test_lost_and_duplicated_transitions_are_counted_apart(tmp_path: Path) -> None:
    rows_KRD = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    assert count(saved(tmp_path / "whole", rows_KRD, 4), 10, 1) == Counts(20, 0, 0, 4, 4)
    assert count(tmp_path / "whole", 5, 2).exact is False, "5 steps owe one update"
    twice = rows_KRD.copy()
    twice[1, 7] = twice[1, 2]
    found = count(saved(tmp_path / "twice", twice, 4), 10, 1)
    assert (found.lost, found.duplicated, found.exact) == (1, 1, False)
    short = count(saved(tmp_path / "short", rows_KRD[:, :9], 4), 10, 1)
    assert (short.lost, short.duplicated) == (2, 0)
    with pytest.raises(SettingsError, match="has no whole checkpoint"):
        count(tmp_path / "nothing", 10, 1)


def test_the_report_says_what_was_not_recovered_from() -> None:
    counts = Counts(20, 0, 0, 4, 4)
    fine = Outcome("sync", 400, [("worker killed (7)", 3.21, 1.5), ("node added", 9.0, 2.5)], counts, True)
    assert fine.sound
    for bad in (
        Outcome("async", 400, [("worker killed (7)", 3.21, None)], counts, None),
        Outcome("sync", 400, [], counts, False),
        Outcome("async", 400, [], Counts(20, 1, 0, 4, 4), None),
    ):
        assert not bad.sound
    said = report([fine, Outcome("async", 200, [("node lost, with 2 workers", 1.0, None)], counts, None)])
    assert "worker killed (7)" in said and "never" in said
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines()]
    assert ["sync", "400", "2", "2.0", "2.5", "0", "0", "0", "yes"] in cells
    assert ["async", "200", "1", "-", "-", "0", "0", "0", "-"] in cells


def test_help_and_bad_words(run: Run) -> None:
    assert "  chaos " in run("--help").out
    assert {target.name for target in TARGETS} >= {"worker killed", "worker hung", "node lost", "node added"}
    for word, message in {
        "mode=fast": "unknown mode 'fast'; choices: sync, async, both",
        "duration=0": "duration=0.0 must be positive",
        "nodes=0": "nodes=0 must be at least 1",
    }.items():
        said = run("chaos", word)
        assert said.code == 2 and message in said.err


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("learners", [1, 2])
def test_a_run_with_faults_is_sound(run: Run, learners: int) -> None:
    words = ["duration=12", "every=4", "mode=sync", "env=easy3", f"learners={learners}", "json=chaos.json"]
    said = run("chaos", *words)
    assert said.code == 0, said.err
    result = json.loads(Path("chaos.json").read_text())["results"]["sync"]
    assert result["equal"] is True and result["sound"] is True and result["faults"]
    assert result["counts"]["lost"] == result["counts"]["duplicated"] == 0


def child(parent: int, word: str) -> list[str] | None:
    """The command line of a process that another one has started."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if word in words:
                return words
    return None


@pytest.mark.slow
@pytest.mark.cluster
def test_sigterm_leaves_no_process_and_no_file() -> None:
    words = [sys.executable, "-m", "benchmarks", "chaos", "mode=sync", "nodes=2"]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while (driver := child(process.pid, "train")) is None:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        (out,) = (Path(word.removeprefix("out=")) for word in driver if word.startswith("out="))
        assert out.parent.exists()
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert not out.parent.exists()
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
