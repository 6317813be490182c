"""A run's process: its log, its parent, its lock, its end. Nothing here needs Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrl_surgery.runs.durable import take_lock
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.sweeps import SweepError
from mtrl_surgery.sweeps import attempt as attempting
from mtrl_surgery.sweeps.attempt import GUARD, Ended, Order, Started, attempt
from mtrl_surgery.sweeps.folder import RECORD, STOP

# Says that it is there, and ends as a run does: 143 when it was asked to stop.
SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
print("ready", os.getpid(), os.getpgid(0), flush=True)
time.sleep(60)
"""


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    def make(code: str) -> Order:
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep" / RECORD).touch()
        folder = str(tmp_path / "runs" / "run")
        return Order(("-c", code), folder, str(tmp_path / "sweep"), str(tmp_path), {"TOLD": "yes"})

    return make


def log_of(order: Order) -> str:
    return (Path(order.folder) / LOG).read_text()


def until(happened: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; print(os.getcwd(), os.environ['TOLD'])", 0),
        ("import sys; sys.exit('no')", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)
def test_the_exit_code_and_the_output_are_told(order: Callable[..., Order], code: str, exit_code: int):
    one = order(code)
    started, ended = attempt(one, "node")
    assert isinstance(started, Started) and started.pid > 0
    assert ended == Ended(exit_code)
    first, *rest = log_of(one).splitlines()
    assert first.startswith("=== ") and " node: " in first and code in first.replace("'\"'\"'", "'")
    assert rest == {0: [f"{one.cwd} yes"], 1: ["no"], -9: []}[exit_code]
    list(attempt(one))
    assert log_of(one).count("=== ") == 2, "a log is appended to"


def test_a_file_asks_the_run_to_stop_and_it_has_a_group_of_its_own(order: Callable[..., Order]):
    one = order(SLEEPER)
    answers = attempt(one)
    started = next(answers)
    assert isinstance(started, Started)
    until(lambda: "ready" in log_of(one).splitlines()[-1])
    assert log_of(one).split()[-2:] == [str(started.pid)] * 2
    (Path(one.sweep) / STOP).touch()
    assert next(answers) == Ended(143)


def test_an_attempt_that_is_given_up_leaves_no_process(order: Callable[..., Order]):
    answers = attempt(order(SLEEPER))
    started = next(answers)
    assert isinstance(started, Started)
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process when its parent dies")
def test_the_run_dies_with_the_process_that_started_it(tmp_path: Path):
    """As a Ray worker does when its node is lost: SIGKILL, which nobody can answer."""
    code = f"""
import subprocess, sys, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # as Ray's processes have it
child = [sys.executable, "-c", {SLEEPER!r}]
subprocess.Popen([sys.executable, "-I", {str(GUARD)!r}, str(os.getpid()), *child], start_new_session=True).wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        _, pid, _ = parent.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_a_run_whose_starter_is_gone_already_does_not_begin():
    words = [sys.executable, "-I", str(GUARD), "1", sys.executable, "-c", "print('begun')"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stdout == "" and "is gone" in done.stderr


def test_an_attempt_waits_for_the_last_ones_process_to_die(order: Callable[..., Order]):
    one = order("print('begun')")
    Path(one.folder).mkdir(parents=True)
    code = "import sys, time; from mtrl_surgery.runs.durable import take_lock; from pathlib import Path\n"
    code += "take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, one.folder], stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        begun = time.monotonic()
        answers = attempt(one)
        signal.setitimer(signal.ITIMER_REAL, 0.7)
        before = signal.signal(signal.SIGALRM, lambda *_: holder.kill())
        try:
            assert isinstance(next(answers), Started)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - begun > 0.6
        assert next(answers) == Ended(0)


def test_a_folder_that_stays_held_is_refused(order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch):
    one = order("print('begun')")
    monkeypatch.setattr(attempting, "_LOCK_WAIT", 0.3)
    Path(one.folder).mkdir(parents=True)
    lock = take_lock(Path(one.folder))
    with pytest.raises(SweepError, match=rf"is still being written by process {os.getpid()} on"):
        next(attempt(one))
    os.close(lock)
    assert not (Path(one.folder) / LOG).exists()


def test_a_machine_that_does_not_see_the_folders_says_so(order: Callable[..., Order]):
    one = order("pass")
    (Path(one.sweep) / RECORD).unlink()
    with pytest.raises(SweepError, match=r"does not have .*sweep.json: on several machines"):
        next(attempt(one))


def test_a_run_folder_begins_where_a_run_died_before_it_was_one(tmp_path: Path):
    path = tmp_path / "run"
    with RunFolder.begin(path, {"seed": 1}):
        pass
    (path / "manifest.json").unlink()  # as if killed between two files
    (path / LOG).write_text("=== kept\n")
    with RunFolder.begin(path, {"seed": 2}) as run:
        assert run.config()["seed"] == 2 and run.manifest()["status"] == "running"
    assert (path / LOG).read_text() == "=== kept\n"
    with pytest.raises(ValueError, match=r"is not empty and no run folder to begin in: it holds manifest.json"):
        RunFolder.begin(path, {"seed": 3})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"it holds thesis.tex"):
        RunFolder.begin(tmp_path / "mine", {"seed": 3})
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
