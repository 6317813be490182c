"""How a sweep on this machine ends before its time, and goes on: stopped, interrupted, killed, out of retries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtrl_surgery.__main__ import main
from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.sweeps.folder import REPORT, find
from mtrl_surgery.sweeps.standing import standing_of
from tests.cluster.sweeping import REPOSITORY, Sweep, same_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """Two runs, one after the other."""
    made = Sweep(tmp_path, seeds="0,1", words=("sweep.parallel=1",))
    yield made
    made.end()


def assert_finishes_as_if_undisturbed(sweep: Sweep, resumed: int = 0) -> None:
    """The same command goes on: the run of seed `resumed` from its checkpoint."""
    sweep.start()
    code, said = sweep.finish()
    assert code == 0, said
    for seed in (0, 1):
        path = sweep.path(seed)
        assert same_rows(path, sweep.undisturbed(seed))
        assert len(RunFolder.open(path).manifest()["resumed"]) == (seed == resumed)


@pytest.mark.parametrize(("how", "exit_code"), [("sweep stop", 143), ("SIGINT", 130), ("SIGTERM", 143)])
def test_a_sweep_that_is_asked_to_stop_checkpoints_and_goes_on(
    how: str, exit_code: int, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.start()
    sweep.until(sweep.begun)
    if how == "sweep stop":
        assert main(["sweep", "stop", str(sweep.out)]) == 0
        assert "1 runs write their checkpoints first" in capsys.readouterr().out
    else:
        sweep.process.send_signal(signal.Signals[how])
    code, said = sweep.finish()
    assert code == exit_code and "to go on: " in said, said
    assert sweep.states(0, 1) == ["stopped", "pending"]
    assert RunFolder.open(sweep.path(0)).manifest()["status"] == "interrupted"
    assert main(["sweep", "status", str(sweep.out)]) == 0
    told = capsys.readouterr().out
    assert "stopped 1" in told and "pending 1" in told and "train -m" in told
    assert_finishes_as_if_undisturbed(sweep)


def test_a_driver_that_is_killed_takes_its_runs_along_and_is_told_of(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.start()
    sweep.until(sweep.begun)
    pid = RunFolder.open(sweep.path(0)).manifest()["pid"]
    sweep.process.kill()
    sweep.finish()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the run goes on without its driver"
        time.sleep(0.1)
    assert find(str(sweep.out)).driver() is None
    assert main(["sweep", "status", str(sweep.out)]) == 0
    told = capsys.readouterr().out
    assert "seed=0  broken" in told and "nobody drives it; to go on: cd " in told
    assert main(["sweep", "stop", str(sweep.out)]) == 2
    assert "nobody drives this sweep" in capsys.readouterr().err
    assert_finishes_as_if_undisturbed(sweep)


def test_a_second_driver_is_refused(sweep: Sweep) -> None:
    sweep.start()
    sweep.until(lambda: held_by(sweep.path(0)))  # the run is refused as well, but that tells less
    second = subprocess.run(sweep.command(), cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2 and f"process {sweep.process.pid} on" in second.stderr, second.stderr
    assert sweep.finish()[0] == 0


def test_a_run_that_is_lost_again_and_again_counts_as_failed(sweep: Sweep) -> None:
    sweep.kind, sweep.seeds, sweep.words = "kill-always", "0", ("sweep.retries=1",)
    sweep.start()
    code, said = sweep.finish()
    assert code == 1 and "lost 2 times without a new checkpoint (sweep.retries=1)" in said, said
    (run,) = find(str(sweep.out)).read().runs
    assert (run.folder / LOG).read_text().splitlines()[-1].partition(" failed: ")[2].startswith("lost 2 times")


def test_failures_end_a_sweep_where_so_many_are_too_many(sweep: Sweep) -> None:
    sweep.kind, sweep.words = "raise", ("sweep.parallel=1", "sweep.max_failures=1")
    sweep.start()
    code, said = sweep.finish()
    assert code == 1 and "the motor burnt out" in said, said
    assert sweep.states(0, 1) == ["failed", "pending"]


def test_runs_that_join_the_sweeps_cluster_do_not_wait_for_each_other(sweep: Sweep) -> None:
    """A run takes its own CPU and one for a worker: two at once on two CPUs would wait for workers for ever."""
    sweep.words = ("cluster=ray", "cluster.workers=1", f"sweep.parallel={2 * len(os.sched_getaffinity(0))}")
    sweep.start()
    code, said = sweep.finish()
    assert code == 0, said
    for seed in (0, 1):
        assert same_rows(sweep.path(seed), sweep.undisturbed(seed))


def test_supervised_runs_are_swept_alike_and_reported_on(tmp_path: Path) -> None:
    words = ["dataset.limit=128", "batch_size=32", "epochs=1", "logger=none", "device=cpu", "method=ls,stl", "out=o"]
    command = [sys.executable, "-m", "experiments_vision", "train", "-m", *words]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    folder = find(str(tmp_path / "o"))
    paths = [run.folder for run in folder.read().runs]
    assert [standing_of(path).state for path in paths] == ["done", "done"]
    assert [path.name.split("_")[2] for path in paths] == ["ls", "stl"]
    assert (folder.path / REPORT).stat().st_size > 1_000_000 and "written to" in done.stdout
