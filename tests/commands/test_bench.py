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

from mtrl_surgery.commands.bench.rollout import REFERENCE, TARGET
from tests.commands.conftest import Run

REPOSITORY = Path(__file__).resolve().parents[2]


def test_update(run: Run):
    said = run("bench", "update", "tasks=3", "batch=8", "width=16", "updates=2", "methods=[ls,samgs]", "device=cpu")
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
            "bench",
            "rollout",
            "tasks=[reach-v3,drawer-close-v3]",
            "workers=[2]",
            "steps=20",
            "rounds=3",
            "width=16",
        ]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-m", "mtrl_surgery", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        written = json.loads((Path(folder) / "runs/bench/rollout-k2.json").read_text())
    rows = {row["by"]: row for row in written["results"]["rows"]}
    assert len(rows) == 4 and "2 Ray workers" in rows
    reference, workers = rows[REFERENCE], rows["2 Ray workers"]
    assert reference["ratio"] == reference["cpu_ratio"] == 1 and reference["met"] is None
    assert workers["met"] is (workers["ratio"] >= TARGET)
    assert 0.02 < workers["ratio"] < 3, "each worker's, not both together"
    assert 0.2 < workers["cpu_ratio"] < 5
    assert re.search(r"2 Ray workers +[\d,]+ +[\d.]+ +[\d.]+ +0.9 +(yes|no)", done.stdout)


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("workers=[0]", "workers=0 must be at least 1"),
        ("workers=[3]", "workers=[3]: 1 tasks can't be shared out over more workers than tasks"),
        ("tasks=[reach-v9]", "unknown task 'reach-v9'"),
    ],
)
def test_rollout_refuses_what_makes_no_sense(run: Run, word: str, complaint: str):
    said = run("bench", "rollout", *{"tasks": "tasks=[reach-v3]", word.split("=")[0]: word}.values())
    assert said.code == 2 and complaint in said.err
