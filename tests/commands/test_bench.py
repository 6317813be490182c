"""The benchmarks run and write what they print."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands.conftest import Run


def test_update(run: Run):
    said = run("bench", "update", "tasks=3", "batch=8", "width=16", "updates=2", "methods=[ls,samgs]", "device=cpu")
    assert said.code == 0 and said.err == ""
    written = json.loads(Path("runs/bench/update-k3-cpu.json").read_text())
    assert set(written["results"]["milliseconds"]) == {"ls", "samgs"}
    assert written["results"]["relative"]["ls"] == 1.0
    assert written["arguments"]["batch"] == 8 and written["session"]["versions"]["torch"]
    assert "samgs" in said.out and "1.00x" in said.out


def test_rollout(run: Run):
    said = run("bench", "rollout", "tasks=[reach-v3]", "steps=20", "width=16", "out=elsewhere")
    assert said.code == 0 and said.err == ""
    rates = json.loads(Path("elsewhere/bench/rollout-k1.json").read_text())["results"]["steps_per_second"]
    assert rates["random"] > 0 and rates["policy"] > 0
