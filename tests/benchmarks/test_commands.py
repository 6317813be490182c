"""The benchmarks run and write what they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.rollout import REFERENCE, TARGET
from tests.commands.conftest import Run

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        (["updte"], ["unknown command 'updte'", "did you mean 'update'?"]),
        (["update", "task=3"], ["unknown key 'task'", "did you mean 'tasks'?"]),
        (["update", "tasks=0"], ["tasks=0 must be at least 1"]),
        (["update", "methods=[a"], ["methods=[a", "do not close"]),
        (["update", "methods=[[a]]"], ["methods=[['a']]"]),
        (["update", "tasks=???"], ["tasks=???: give a value"]),
        (["methods", "seconds=inf"], ["seconds=inf", "finite"]),
    ],
)
def test_bad_words_are_an_error_of_one_sentence(run: Run, words: list[str], complaints: list[str]):
    said = run(*words)
    assert said.code == 2 and said.out == ""
    assert all(complaint in said.err for complaint in complaints) and "Traceback" not in said.err


def test_update(run: Run):
    said = run("update", "tasks=3", "batch=8", "width=16", "updates=2", "methods=[ls,samgs]", "device=cpu")
    assert said.code == 0 and said.err == ""
    written = json.loads(Path("runs/bench/update-k3-cpu.json").read_text())
    assert set(written["results"]["milliseconds"]) == {"ls", "samgs"}
    assert written["results"]["relative"]["ls"] == 1.0
    assert written["arguments"]["batch"] == 8 and written["session"]["versions"]["torch"]
    assert "samgs" in said.out and "1.00x" in said.out


@pytest.mark.cluster
@pytest.mark.slow
def test_rollout():
    """In a process of its own: it starts a Ray of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "rollout",
            "tasks=[reach-v3,drawer-close-v3]",
            "workers=[2]",
            "steps=20",
            "rounds=3",
            "width=16",
        ]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        written = json.loads((Path(folder) / "runs/bench/rollout-k2.json").read_text())
    rows = {row["by"]: row for row in written["results"]["rows"]}
    assert len(rows) == 5 and "2 Ray workers" in rows
    reference, workers = rows[REFERENCE], rows["2 Ray workers"]
    assert reference["ratio"] == reference["cpu_ratio"] == 1 and reference["met"] is None
    assert workers["met"] is (workers["ratio"] >= TARGET)
    assert rows["2 of them at once"]["at_once"] == reference["at_once"] == 1
    assert re.search(r"2 Ray workers +[\d,]+ +[\d.]+ +[\d.]+ +[\d.]+ +0.9 +(yes|no)", done.stdout)
    *inside, alone = written["results"]["parts"]
    assert [part["part"] for part in inside] == ["physics", "physics", "policy"]
    assert all(0 < part["share"] < 1 for part in inside) and alone["share"] is None


@pytest.mark.cluster
@pytest.mark.slow
def test_chunks(tmp_path: Path):
    """In a process of its own: it starts a Ray of its own."""
    words = ["tasks=[reach-v3,drawer-close-v3]", "steps=[1,40]", "workers=2", "rounds=3", "width=16"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "chunks", *words],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs/bench/chunks-k2.json").read_text())["results"]["rows"]
    by = {(row["by"], row["chunk_steps"]): row for row in rows}
    assert set(by) == {(place, steps) for place in ("Ray, 2 workers", "this process") for steps in (1, 40)}
    for row in rows:
        assert 0 < row["worker_ms"] < row["wall_ms"]
        assert row["share"] == pytest.approx(1 - row["worker_ms"] / row["wall_ms"])
    assert by["Ray, 2 workers", 40]["worker_ms"] > 5 * by["Ray, 2 workers", 1]["worker_ms"]
    assert by["Ray, 2 workers", 1]["share"] > by["Ray, 2 workers", 40]["share"], (
        "Ray's cost is the chunk's, not the step's"
    )
    assert re.search(r"Ray, 2 workers +40 +[\d.]+ +[\d.]+ +[\d.]+ %", done.stdout)


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("workers=2", "workers=2: 1 tasks can't be shared out over more workers than tasks"),
        ("steps=[]", "steps=[]: give at least one"),
        ("steps=[5,0]", "steps=0 must be at least 1"),
        ("tasks=[reach-v9]", "unknown task 'reach-v9'"),
    ],
)
def test_chunks_refuses_what_makes_no_sense(run: Run, word: str, complaint: str):
    said = run("chunks", *{"tasks": "tasks=[reach-v3]", word.split("=")[0]: word}.values())
    assert said.code == 2 and complaint in said.err


def test_rollout_holds_each_worker_to_the_reference_alone_and_shows_it_beside_as_many():
    from benchmarks.rollout import Laps, _rows

    laps = {
        REFERENCE: Laps([1000.0, 2000.0], [900.0, 1800.0], beside=REFERENCE),
        "2 of them at once": Laps([1250.0, 2500.0], [], 2, 2, "2 of them at once"),
        "2 Ray workers": Laps([800.0, 1000.0], [1000.0, 1700.0], 2, 1, "2 of them at once"),
    }
    alone, together, workers = _rows(laps, 1000)
    assert (alone.ratio, alone.at_once, alone.cpu_ratio, alone.met) == (1, 1, 1, None)
    assert (together.ratio, together.at_once, together.cpu_ratio, together.met) == (0.8, 1, None, None)
    assert workers.ratio == pytest.approx((1.25 + 2) / 2 / 2) and workers.met is False
    assert workers.at_once == pytest.approx((1250 / 800 + 2500 / 1000) / 2 / 2)
    assert workers.cpu_ratio == 1 and workers.steps_per_second == pytest.approx(1000 / 0.9)


def test_rollout_watches_functions_and_leaves_them_as_they_were():
    from benchmarks.rollout import _watched

    class Owner:
        def double(self, number: int) -> int:
            return 2 * number

    before = Owner.double
    with pytest.raises(KeyError), _watched(Owner, ("double",)) as laps:
        assert Owner.double is not before and [Owner().double(3), Owner().double(number=4)] == [6, 8]
        assert len(laps) == 2 and all(0 <= lap < 1 for lap in laps)
        raise KeyError("a bench that fails")
    assert Owner.double is before


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("workers=[0]", "workers=0 must be at least 1"),
        ("workers=[3]", "workers=[3]: 1 tasks can't be shared out over more workers than tasks"),
        ("tasks=[reach-v9]", "unknown task 'reach-v9'"),
    ],
)
def test_rollout_refuses_what_makes_no_sense(run: Run, word: str, complaint: str):
    said = run("rollout", *{"tasks": "tasks=[reach-v3]", word.split("=")[0]: word}.values())
    assert said.code == 2 and complaint in said.err
