"""Environments that end the process, consoles that go away, disks that are full: the manifest tells the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.workers import pool
from cluster.workers import session as ray_connection
from envs.errors import EnvironmentFailure
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder, read_rows
from mtrl_surgery.runs.signals import finish
from tests.cluster.drivers import command
from tests.cluster.parts import classic_suite
from tests.cluster.runs import Setup, build, rows_of, train
from tests.cluster.toys import StopsOnce
from tests.cluster.training.test_failures import trapped

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("kind", "says"), [("exit", "SystemExit: 0"), ("exit-hard", "SystemExit: 0"), ("interrupt", "KeyboardInterrupt")]
)
def test_an_environment_that_leaves_is_a_failure_of_the_environment(
    kind: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # a handler that tells Ctrl-C from an exception
    try:
        with RunFolder.create(tmp_path, "leaving", {"seed": 0}) as folder, pytest.raises(EnvironmentFailure) as raised:
            build(trapped(kind, 75, tmp_path / "never", ClusterConfig(kind="inline")), folder).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert says in raised.value.cause and raised.value.step > 0
    assert folder.manifest()["status"] == "failed" and says in folder.manifest()["error"]
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step == 60


@pytest.mark.cluster
def test_a_worker_whose_environment_leaves_says_so(tmp_path: Path, ray_session: None) -> None:
    setup = trapped("exit", 75, tmp_path / "never", ClusterConfig(kind="local", workers=2))
    with RunFolder.create(tmp_path, "leaving", {"seed": 0}) as folder, pytest.raises(EnvironmentFailure, match="Exit"):
        build(setup, folder).run()


def words(tmp_path: Path, kind: str = "other") -> list[str]:
    setup = trapped(kind, 75, tmp_path / "never", ClusterConfig(kind="inline"))
    return command(setup, tmp_path / "runs", "cluster=inline")


def manifest(tmp_path: Path) -> dict[str, object]:
    (path,) = (tmp_path / "runs").iterdir()
    return RunFolder.open(path).manifest()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exit", "exit-hard", "interrupt"])
def test_the_command_fails_where_an_environment_leaves(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(words(tmp_path, kind), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "episode" in done.stderr
    assert manifest(tmp_path)["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["{} 2>&1 | head -c 1", "{} 2>&-", "{} >&- 2>&-", "{} >/dev/full 2>&1"])
def test_a_console_that_goes_away_ends_no_run(shell: str, tmp_path: Path) -> None:
    line = shell.format(" ".join(f"'{word}'" if "'" not in word else f'"{word}"' for word in words(tmp_path)))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
    assert manifest(tmp_path)["status"] == "finished"


@pytest.mark.parametrize(
    ("shell", "code"), [("{} | head -1 >/dev/null", 0), ("{} >&-", 1), ("{} >/dev/full", 1), ("{} 2>&- >/dev/null", 0)]
)
def test_a_table_for_a_reader_that_left_ends_quietly(shell: str, code: int) -> None:
    line = shell.format(f"{sys.executable} -m mtrl_surgery methods")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == code and "Traceback" not in done.stderr


def test_the_first_cause_is_told_whatever_fails_after_it(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError("no space left")

    done: list[str] = []
    with RunFolder.create(tmp_path, "first", {"seed": 0}) as run:
        finish(run, MemoryError("of the update"), [fails, lambda: done.append("closed")])
    assert done == ["closed"] and run.manifest()["error"] == "MemoryError: of the update"
    with RunFolder.create(tmp_path, "second", {"seed": 0}) as run, pytest.raises(OSError, match="no space left"):
        finish(run, None, [fails])
    assert run.manifest()["status"] == "failed"


def test_a_foreign_error_leaves_a_checkpoint_of_a_whole_state(tmp_path: Path) -> None:
    setup = Setup(classic_suite())
    with RunFolder.create(tmp_path, "foreign", {"seed": 0}) as folder, pytest.raises(OSError, match="burnt"):
        trainer = build(setup, folder)

        def burn(step: int, updates: int) -> None:
            if step >= 100:
                raise OSError("the cable burnt")

        trainer.recorder.progress = burn  # type: ignore[method-assign]
        trainer.run()
    assert folder.manifest()["error"] == "OSError: the cable burnt"
    newest = CheckpointStore(folder.checkpoints, 100).newest()
    assert newest is not None and newest.step == 100


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server"])
def test_ray_that_dies_is_told_and_leaves_a_checkpoint(victim: str, tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from cluster.workers.session import _descendants
from tests.cluster.parts import classic_suite
from tests.cluster.runs import SCHEDULE, Setup, build
from cluster.config import ClusterConfig, ClusterFailure
from mtrl_surgery.runs.folder import RunFolder
with RunFolder.create(Path(sys.argv[1]), "run", {{"seed": 0}}) as folder:
    trainer = build(Setup(classic_suite(), ClusterConfig(kind="local", workers=1)), folder)
    shown = trainer.recorder.progress
    def strike(step, updates):
        shown(step, updates)
        if step == 60:
            for pid in _descendants(os.getpid()):
                if {victim!r} in open(f"/proc/{{pid}}/comm").read():
                    os.kill(pid, signal.SIGKILL)
    trainer.recorder.progress = strike
    try:
        trainer.run()
    except ClusterFailure as error:
        print(error)
        print(sum("ray" in open(f"/proc/{{pid}}/cmdline").read() for pid in _descendants(os.getpid())), "left")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert victim in done.stdout and done.stdout.endswith("0 left\n"), done.stderr
    run = RunFolder.open(tmp_path / "run")
    assert run.manifest()["status"] == "failed"
    newest = CheckpointStore(run.checkpoints, 100).newest()
    assert newest is not None and newest.step >= 60


@pytest.mark.cluster
@pytest.mark.slow
def test_a_worker_that_hangs_before_its_first_answer_is_replaced(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "HANG_LEAST", 10.0)
    suite = classic_suite()
    stopping = replace(suite, factory=StopsOnce(suite.factory, tmp_path / "marker"))
    cluster = ClusterConfig(kind="local", workers=1, start_timeout=120.0)
    run = train(Setup(stopping, cluster), tmp_path, "stopped")
    replaced = [row for row in read_rows(run / "health.jsonl") if row.get("event") == "worker replaced"]
    assert [row["reason"] for row in replaced] == ["worker hung"] and "of its start" in replaced[0]["text"]
    assert rows_of(run) == rows_of(train(Setup(suite), tmp_path, "undisturbed"))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_ray_starts_ends_the_run_at_once(number: signal.Signals, code: int, tmp_path: Path) -> None:
    line = [*words(tmp_path)[:-1], "cluster=local", "cluster.workers=1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    driver = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    while driver.poll() is None and not (started := _children(driver.pid, "gcs_server")):
        time.sleep(0.02)
    driver.send_signal(number)
    driver.communicate(timeout=60)
    assert driver.returncode == code
    assert manifest(tmp_path)["status"] == "interrupted"
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline, "Ray lives on"
        time.sleep(0.1)


def _children(pid: int, name: str) -> list[int]:
    return [child for child in ray_connection._descendants(pid) if name in Path(f"/proc/{child}/cmdline").read_text()]
