"""How runs end that go wrong: a clear error, a status, and a checkpoint to go on from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.config import ClusterConfig, ClusterError
from cluster.training.driver import LOOK
from envs.errors import EnvironmentFailure
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder, read_rows
from mtrl_surgery.runs.signals import Interrupted
from mtrl_surgery.tensors import NonFiniteError
from tests.cluster import interruptible
from tests.cluster.parts import classic_suite, factory_suite
from tests.cluster.runs import SCHEDULE, TINY, Setup, build, resume, rows_of, train
from tests.cluster.toys import trap

REPOSITORY = Path(__file__).resolve().parents[3]
TOYS = "tests.cluster.toys:make"


def trapped(kind: str, step: int, marker: Path, cluster: ClusterConfig) -> Setup:
    suite = factory_suite(TOYS, [trap(kind, step, marker), trap("none", 0, marker)])
    return Setup(suite, cluster, copies=1)


@pytest.mark.cluster
def test_a_run_whose_worker_was_killed_has_the_same_bytes(tmp_path: Path, ray_session: None) -> None:
    marker = tmp_path / "sprung"
    setup = trapped("kill", 75, marker, ClusterConfig(kind="inline"))
    marker.touch()
    inline = train(setup, tmp_path, "inline")
    marker.unlink()
    killed = train(replace(setup, cluster=ClusterConfig(kind="local", workers=2)), tmp_path, "killed")
    assert marker.exists()
    assert rows_of(killed) == rows_of(inline)
    health = read_rows(killed / "health.jsonl")
    assert [row["restarts"] for row in health if "restarts" in row][-1] == 1
    assert [row["event"] for row in health if "reason" in row] == ["worker replaced"]


def test_an_environment_that_raises_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    marker = tmp_path / "repaired"
    # No checkpoint is due before the end: the one of step 60 is the failure's, with an evaluation still to be done.
    schedule = replace(SCHEDULE, checkpoint_every=1_000)
    setup = replace(trapped("raise", 75, marker, ClusterConfig(kind="inline")), schedule=schedule)
    with (
        RunFolder.create(tmp_path, "raising", {"seed": 0}) as folder,
        pytest.raises(EnvironmentFailure, match="the motor burnt out") as raised,
    ):
        build(setup, folder).run()
    assert raised.value.task == setup.suite.tasks[0]
    with RunFolder.open(folder.path) as folder:
        assert folder.manifest()["status"] == "failed"
        assert "the motor burnt out" in folder.manifest()["error"]
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step == 60  # chunk 3 reaches step 75
    assert [order["step"] for order in newest.state["evaluations"]] == [60]
    marker.touch()
    resume(setup, folder.path)
    assert rows_of(folder.path) == rows_of(train(setup, tmp_path, "never-raised"))


@pytest.mark.cluster
def test_workers_that_keep_dying_end_the_run_with_a_checkpoint(tmp_path: Path, ray_session: None) -> None:
    cluster = ClusterConfig(kind="local", workers=2, max_restarts=0)
    setup = trapped("kill-always", 75, tmp_path / "never", cluster)
    with (
        RunFolder.create(tmp_path, "dying", {"seed": 0}) as folder,
        pytest.raises(ClusterError, match="max_restarts=0"),
    ):
        build(setup, folder).run()
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step + newest.state["inserted"] == 60  # it may come within a round


def test_a_nan_ends_the_run_and_is_not_saved(tmp_path: Path) -> None:
    setup = trapped("explode", 70, tmp_path / "never", ClusterConfig(kind="inline"))
    with (
        RunFolder.create(tmp_path, "exploding", {"seed": 0}) as folder,
        pytest.raises(NonFiniteError, match=r"critic.* of task 'explode"),
    ):
        build(setup, folder).run()
    with RunFolder.open(folder.path) as folder:
        assert folder.manifest()["status"] == "failed"
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step == 60
    assert np.isfinite(newest.state["policy_weights"]).all()


@pytest.mark.parametrize("last", [False, True])
def test_a_signal_does_not_wait_for_a_rounds_updates(last: bool, tmp_path: Path) -> None:
    # With MT10's networks a round of updates lasts minutes on a laptop, and whoever stops a job may wait one.
    schedule = replace(SCHEDULE, chunk_steps=60, total_steps=170, checkpoint_every=1_000)
    setup = Setup(classic_suite(), schedule=schedule, agent=replace(TINY, updates_per_step=1))
    at = 125 if last else 75  # updates; the rounds' ends owe 20, 80 and 130
    with RunFolder.create(tmp_path, "stopped", {"seed": 0}) as folder, pytest.raises(Interrupted) as stopped:
        trainer = build(setup, folder)
        learner, update = trainer.learner, trainer.learner.update

        def update_then_stop(number: int) -> None:
            update(number)
            if learner.updates >= at:
                os.kill(os.getpid(), signal.SIGTERM)

        learner.update = update_then_stop  # type: ignore[method-assign]
        trainer.run()
    state = CheckpointStore(folder.checkpoints, 100).load(stopped.value.checkpoint).state
    assert at <= state["limiter"]["updates"] < at + LOOK
    assert state["inserted"] == (50 if last else 60)
    longer = replace(setup, schedule=replace(schedule, total_steps=240))
    with pytest.raises(ClusterError, match="total_steps=119 lies before the checkpoint's step"):
        resume(replace(setup, schedule=replace(schedule, total_steps=119)), folder.path)
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    resume(setup, folder.path)
    whole = train(setup, tmp_path, "whole")
    assert rows_of(folder.path) == rows_of(whole)
    if last:  # its last chunk was cut to the end of the run; one that goes on has a chunk to fill the grid
        resume(longer, whole)
        resume(longer, folder.path)
        assert rows_of(folder.path) == rows_of(whole)
        resume(longer, copy)
        metrics = read_rows(copy / "metrics.jsonl")
        assert (metrics[-1]["step"], metrics[-1]["updates"]) == (240, 200)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(interruptible.SETUP, tmp_path_factory.mktemp("runs"), "whole")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGTERM, "inline"), pytest.param(signal.SIGINT, "local", marks=pytest.mark.cluster)],
)
def test_a_signal_leaves_a_checkpoint_that_goes_on_to_the_same_bytes(
    number: signal.Signals, kind: str, uninterrupted: Path, tmp_path: Path
) -> None:
    # A driver of its own with the environment of a user: the tests' Ray settings must not leak in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "tests.cluster.interruptible", str(tmp_path), kind]
    driver = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, process_group=0
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while driver.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.02)
    os.killpg(driver.pid, number)  # as a terminal does: to the driver and to whatever it started
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 128 + number, stderr
    assert f"stopped by {number.name}" in stderr
    with RunFolder.open(tmp_path / "run") as folder:
        assert folder.manifest()["status"] == "interrupted"
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step < interruptible.SETUP.schedule.total_steps
    assert str(newest.path) in stderr
    resume(interruptible.SETUP, tmp_path / "run")
    assert rows_of(tmp_path / "run") == rows_of(uninterrupted)
