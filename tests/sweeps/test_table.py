"""The table of a sweep: on disk, as text, and by the `sweep` command."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from mtrl_surgery.__main__ import main
from mtrl_surgery.sweeps.display import Display
from mtrl_surgery.sweeps.errors import SweepError
from mtrl_surgery.sweeps.folder import SWEEPS, TABLE, Entry, SweepFolder, Table, find
from mtrl_surgery.sweeps.measure import Measure
from mtrl_surgery.sweeps.view import status, summary

MEASURE = Measure("metrics", "step", 400, "steps")
STATES = ("done", "running", "pending", "failed", "stopped")


def table_of(folder: Path, *states: str) -> Table:
    """A run in each of the states."""
    entries = []
    for number, state in enumerate(states):
        entry = Entry(f"seed={number}", str(folder / f"run{number}"), ["-m"], asdict(MEASURE), state)
        entry.attempts, entry.where, entry.since = 1, "here", time.time() - 60
        entry.note = "exit code 1: the motor burnt out" if state == "failed" else ""
        entries.append(entry)
    return Table(["python", "-m", "mtrl_surgery", "train", "-m"], "/there", entries, "process 7 on h", time.time() - 60)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.chdir(tmp_path)
    made = SweepFolder(tmp_path / "runs" / SWEEPS / "one")
    with made.driving():
        made.write(table_of(tmp_path / "runs", *STATES))
    return made


def rows(folder: Path, *steps: int, torn: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "task": None, "pad": "x" * 300}) for step in steps]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + torn)


def test_a_table_comes_back_as_it_was(folder: SweepFolder, tmp_path: Path):
    table = folder.read()
    assert table.entries[3].note == "exit code 1: the motor burnt out"
    folder.write(table)
    assert folder.read() == table and [entry.state for entry in table.entries] == list(STATES)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"entries": [{"label": 3}]}', '{"entries": 3}', '{"entries": []}'])
def test_what_is_no_table_is_refused(folder: SweepFolder, text: str):
    (folder.path / TABLE).write_text(text)
    with pytest.raises(SweepError, match=r"sweep\.json"):
        folder.read()


def test_a_table_of_another_version_is_refused(folder: SweepFolder):
    table = folder.read()
    table.format = 99
    folder.write(table)
    with pytest.raises(SweepError, match="format 99; this version reads format 1"):
        folder.read()


def test_how_far_a_run_is_comes_from_its_last_whole_row(tmp_path: Path):
    assert MEASURE.done(tmp_path) == 0
    rows(tmp_path, *range(0, 400, 1), torn='{"step": 9')
    assert MEASURE.done(tmp_path) == 399 and MEASURE.share(tmp_path) == 399 / 400
    rows(tmp_path, 500)
    assert MEASURE.done(tmp_path) == 400, "never more than all"
    (tmp_path / "metrics.jsonl").write_text("torn")
    assert MEASURE.done(tmp_path) == 0


def test_rate_and_time_left_count_parts_of_runs(tmp_path: Path):
    table = table_of(tmp_path, "done", "running", "pending", "failed")
    rows(tmp_path / "run1", 200)
    table.work = 1.0  # the first was done before
    text = summary(table, table.started + 1800)
    # 1.5 runs in half an hour (a failed one is over as well), 1.5 left.
    assert text == "4 runs: done 1  pending 1  running 1  failed 1  3.0 runs/h  ETA 0:30:00"
    assert "ETA" not in summary(table_of(tmp_path, "done"), time.time()), "nothing runs"


def test_who_is_said_to_run_without_a_driver_is_broken(folder: SweepFolder):
    text = status(folder.read(), None, False)
    assert "seed=1  broken" in text and "its driver died" in text and "running 0" in text
    assert "its driver (process 7 on h) is not alive; to go on: cd /there && " in text
    assert f"failed: seed=3: exit code 1: the motor burnt out\n        {folder.path.parents[1]}/run3/log.txt" in text
    alive = status(folder.read(), "process 7 on h", True)
    assert "seed=1  running" in alive and "driven by process 7 on h, which is asked to stop" in alive
    assert "to go on" not in alive


def test_the_command_tells_and_stops(folder: SweepFolder, capsys: pytest.CaptureFixture[str]):
    with folder.driving():
        assert main(["sweep", "status"]) == 0
        assert f"driven by process {os.getpid()} on" in capsys.readouterr().out
        assert main(["sweep", "stop", "runs"]) == 0
        assert folder.stop_file.exists() and "1 runs write" in capsys.readouterr().out
    assert main(["sweep", "stop", str(folder.path)]) == 2
    assert "nobody drives this sweep" in capsys.readouterr().err
    with folder.driving():
        assert not folder.stop_file.exists(), "a wish is for the driver of its time"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["start"], "unknown action 'start'; did you mean 'stop, status'?"),
        (["status", "a", "b"], "'b' is one word too many"),
        (["status", "nowhere"], "nowhere: no sweep was found in it"),
    ],
)
def test_the_command_refuses(words: list[str], part: str, folder: SweepFolder, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and (part in said or "unknown action 'start'" in said)


def test_the_newest_sweep_is_found(folder: SweepFolder, tmp_path: Path):
    other = SweepFolder(tmp_path / "runs" / "vision" / SWEEPS / "two")
    with other.driving():
        other.write(folder.read())
    os.utime(folder.path / TABLE, (1, 1))
    assert find(None).path == find("runs/vision").path == other.path
    assert find(str(folder.path)).path == folder.path


def test_two_drivers_of_one_sweep_are_refused(folder: SweepFolder):
    with folder.driving():
        assert folder.driver() is not None
        with pytest.raises(SweepError, match=r"this sweep is being done already: .* process \d+ on"), folder.driving():
            raise AssertionError("the second one may not come here")
    assert folder.driver() is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_table_and_a_file_has_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    table = table_of(tmp_path, *["done"] * 20, "failed", "running")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        display = Display(table, stream)
        for entry in table.entries[-2:]:
            display.update(entry)
        display._shown = float("-inf")
        display.update(None)
    drawn = terminal.getvalue().split("\x1b[")
    assert len(drawn) == 3 and drawn[1] == "11A" and drawn[2].startswith("J"), "redrawn over itself"
    lines = drawn[-1][1:].splitlines()
    assert len(lines) == 11 < 12 and max(map(len, lines)) < 60
    assert "running" in lines[2] and "failed" in lines[3], "what goes on is on top"
    assert "and 15 more" in lines[-2] and lines[-1].startswith("22 runs: done 20")
    said = file.getvalue().splitlines()
    assert len(said) == 3 and said[0].startswith("failed   seed=20") and said[1].startswith("running  seed=21")
    assert "\x1b" not in file.getvalue()
