"""How a sweep stands: read from its runs' folders, as text, and by the `sweep` command."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mtrl_surgery.__main__ import main
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.sweeps import SweepError
from mtrl_surgery.sweeps.folder import RECORD, SWEEPS, Measure, Sweep, SweepFolder, SweepRun, find
from mtrl_surgery.sweeps.standing import STATES, Standing, standing_of, status, summary

MEASURE = Measure("metrics", "step", 400, "steps")


def sweep_of(folder: Path, number: int) -> Sweep:
    runs = [SweepRun(f"seed={one}", folder / f"run{one}", MEASURE) for one in range(number)]
    return Sweep(["python", "-m", "mtrl_surgery", "train", "-m"], "/there", time.time() - 60, 0.0, runs)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A run in each of the states, in their order; what holds the lock of the one that runs is this process."""
    monkeypatch.chdir(tmp_path)
    made = SweepFolder(tmp_path / "runs" / SWEEPS / "one")
    with made.driving():
        made.write(sweep_of(tmp_path / "runs", len(STATES)))
    runs = {
        state: RunFolder.begin(tmp_path / "runs" / f"run{number}", {"seed": number})
        for number, state in enumerate(STATES)
        if state != "pending"
    }
    runs["done"].finish("finished")
    runs["failed"].finish("failed", "the motor burnt out")
    runs["stopped"].finish("interrupted")
    (runs["broken"].path / LOG).write_text("=== then on here: python\nlost: its node died\n")
    for state, run in runs.items():
        if state != "running":
            run.close()
    return made


def rows(folder: Path, *steps: int, torn: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "task": None, "pad": "x" * 300}) for step in steps]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + torn)


def test_a_runs_folder_says_how_it_stands(folder: SweepFolder):
    found = [standing_of(run.folder) for run in folder.read().runs]
    assert [one.state for one in found] == list(STATES)
    assert [one.starts for one in found] == [0, 1, 1, 1, 1, 1]
    assert {one.state: one.note for one in found if one.note} == {
        "failed": "the motor burnt out",
        "broken": "lost: its node died",
    }


def test_a_run_that_ended_before_it_began_tells_its_last_words(tmp_path: Path):
    (tmp_path / LOG).write_text("=== then on here: python\nerror: device=cuda is not here\n")
    assert standing_of(tmp_path) == Standing("pending", note="error: device=cuda is not here")
    assert standing_of(tmp_path / "nowhere") == Standing("pending")


def test_what_a_driver_wrote_comes_back(folder: SweepFolder):
    sweep = folder.read()
    folder.write(sweep)
    assert folder.read() == sweep and sweep.runs[3].label == "seed=3" and sweep.runs[3].measure == MEASURE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"label": 3}]}', '{"format": 2, "runs": 3}'])
def test_what_is_no_sweep_is_refused(folder: SweepFolder, text: str):
    (folder.path / RECORD).write_text(text)
    with pytest.raises(SweepError, match=r"sweep\.json"):
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
    sweep = replace(sweep_of(tmp_path, 4), work=1.0)  # the first was done before
    standings = [Standing(state) for state in ("done", "running", "pending", "failed")]
    rows(tmp_path / "run1", 200)
    text = summary(sweep, standings, sweep.started + 1800)
    # 1.5 runs in half an hour (a failed one is over as well), 1.5 left.
    assert text == "4 runs: pending 1  running 1  done 1  failed 1  3.0 runs/h  ETA 0:30:00"
    assert "ETA" not in summary(sweep_of(tmp_path, 1), [Standing("done")], time.time()), "nothing runs"


def test_the_status_has_every_run_and_how_to_go_on(folder: SweepFolder):
    text = status(folder)
    assert all(f"seed={number}  {state}" in text for number, state in enumerate(STATES))
    assert "nobody drives it; to go on: cd /there && " in text
    assert f"failed: seed=3: the motor burnt out\n        {folder.path.parents[1]}/run3/log.txt" in text
    with folder.driving():
        folder.stop_file.touch()
        alive = status(folder)
    assert "driven by process" in alive and "which is asked to stop" in alive and "to go on" not in alive


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
        (["start"], "unknown action 'start'"),
        (["status", "a", "b"], "'b' is one word too many"),
        (["status", "nowhere"], "nowhere: no sweep was found in it"),
    ],
)
def test_the_command_refuses(words: list[str], part: str, folder: SweepFolder, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and part in said


def test_the_newest_sweep_is_found(folder: SweepFolder, tmp_path: Path):
    other = SweepFolder(tmp_path / "runs" / "vision" / SWEEPS / "two")
    with other.driving():
        other.write(folder.read())
    os.utime(folder.path / RECORD, (1, 1))
    assert find(None).path == find("runs/vision").path == other.path
    assert find(str(folder.path)).path == folder.path


def test_two_drivers_of_one_sweep_are_refused(folder: SweepFolder):
    with folder.driving():
        assert folder.driver() is not None
        with pytest.raises(SweepError, match=r"this sweep is being done already: .* process \d+ on"), folder.driving():
            raise AssertionError("the second one may not come here")
    assert folder.driver() is None
