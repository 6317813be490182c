"""Finding runs, and `load_runs`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mtrl_surgery
from mtrl_surgery.reports.labels import differences, labels
from mtrl_surgery.reports.records import Record, ReportError, find_runs, open_runs
from tests.reports.folders import TASKS, make_run
from tests.vision.tables.folders import make_run as make_vision_run


def test_runs_are_found_at_any_depth_each_once(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "a" / "deep" / "er", seed=1)
    (tmp_path / "a" / ".hidden").mkdir()
    os.symlink(first, tmp_path / "again")
    assert find_runs(tmp_path / "a") == [second, first], "sorted by path"
    assert find_runs([str(first), tmp_path / "a", tmp_path / "again"]) == [second, first]
    assert find_runs(str(tmp_path / "a" / "three_*")) == [first]


def test_where_there_is_no_run_the_message_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(
        ReportError, match=r"runs: there is no such file or folder under .*config.yaml and manifest.json"
    ):
        find_runs("runs")
    with pytest.raises(ReportError, match=r"empty: no run was found; looked in empty and below"):
        find_runs("empty")
    with pytest.raises(ReportError, match="name run folders"):
        find_runs([])


def test_a_broken_run_is_left_out_and_named(tmp_path: Path) -> None:
    good, bad = make_run(tmp_path), make_run(tmp_path, seed=1)
    (bad / "manifest.json").write_text("{")
    records, said = open_runs(tmp_path)
    assert [record.path for record in records] == [good]
    assert len(said) == 1 and "manifest.json" in said[0]
    with pytest.raises(ReportError, match=r"manifest.json"):
        open_runs(bad)


def test_a_record_follows_its_run(tmp_path: Path) -> None:
    path = make_run(tmp_path, status="running")
    record = Record.open(path)
    before = len(record.frames["evaluations"])
    assert not record.refresh() and record.status == "running"
    with (path / "evaluations.jsonl").open("a") as file:
        file.write('{"step":300,"task":"reach-v3","episodes":10,"successes_any":1,"successes_last":0}\n')
    assert record.refresh() and len(record.frames["evaluations"]) == before + 1
    (path / "evaluations.jsonl").write_text('{"step":100,"task":"reach-v3"}\n')
    assert record.refresh() and record.frames["evaluations"].to_dict("records") == [{"step": 100, "task": "reach-v3"}]


def test_frames_of_both_kinds_of_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "ls")
    make_run(tmp_path, "samgs", seed=1, maps=False)
    make_vision_run(tmp_path, "multidigits", "ls", lambda split, epoch, mode, name: 0.5 + 0.01 * epoch, epochs=2)
    frames = mtrl_surgery.load_runs(tmp_path)
    printed = str(frames).splitlines()
    assert len(printed) == 7 + len(frames.said) and max(map(len, printed[:7])) < 60
    assert printed[0] == f"{len(frames.runs)} runs, as pandas frames:"
    assert set(frames.runs.method) == {"ls", "samgs"} and list(frames.runs.kind) == ["supervised", "rl", "rl"]
    assert frames.runs.set_index("run")["agent.tau"].notna().sum() == 2
    evaluations = frames.evaluations
    assert len(evaluations) == 2 * 2 * 3 and evaluations.successes_any.sum() == 2 * (0 + 2 + 4 + 2 + 6 + 10)
    assert np.issubdtype(evaluations.episodes.dtype, np.integer), "counts stay counts"
    joined = evaluations.merge(frames.runs[["run", "method", "seed"]], on="run")
    assert joined.groupby("method").episodes.sum().to_dict() == {"ls": 60, "samgs": 60}
    assert set(frames.measurements.metric) == {"accuracy_left", "accuracy_right"}
    assert set(frames.measurements.average) == {"batches", "pooled"}
    assert frames.metrics["task"].isna().sum() == 4 and len(frames.metrics) == 2 * 2 * 4
    assert len(frames.conflicts) == 2 * 2 * 3 and set(frames.conflicts.network) == {"critic", "actor"}
    pair = frames.conflicts.iloc[1]
    assert (pair.task, pair.other) == (TASKS[0], TASKS[2]) and -1 <= pair.cosine <= 1
    assert set(frames.health.steps_per_s.dropna()) == {150.0, 250.0}


def test_files_can_be_chosen_and_others_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    frames = mtrl_surgery.load_runs(tmp_path, files=("evaluations",))
    assert len(frames.evaluations) == 6 and frames.metrics.empty
    with pytest.raises(ReportError, match="files=videos: choices: evaluations, metrics, health, conflicts"):
        mtrl_surgery.load_runs(tmp_path, files=("videos",))


def test_reading_runs_imports_neither_torch_nor_plotly() -> None:
    code = (
        "import sys, mtrl_surgery.reports.report, mtrl_surgery.reports.records, mtrl_surgery.reports.html_report;"
        "print([name for name in ('torch', 'plotly', 'matplotlib', 'ray') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_labels_name_what_tells_groups_apart() -> None:
    def config(method: dict[str, object], **more: object) -> dict[str, object]:
        return {"method": method, "seed": 3, "out": "x", "agent": {"tau": 0.1}, **more}

    def named(configs: list[dict[str, object]]) -> list[str]:
        return list(map(str, labels(configs)))

    plain = {"name": "ls"}
    assert named([config(plain), config(plain, seed=4), config({"name": "samgs", "gamma": 0.9})]) == [
        "ls",
        "ls",
        "samgs",
    ]
    two = [config({"name": "samgs", "gamma": 0.9}), config({"name": "samgs", "gamma": 0.5}), config(plain)]
    assert named(two) == ["samgs (gamma=0.9)", "samgs (gamma=0.5)", "ls"]
    outside = [config(plain), config(plain, agent={"tau": 0.2})]
    assert named(outside) == ["ls (agent.tau=0.1)", "ls (agent.tau=0.2)"]
    assert named([config(plain), config(plain, total_steps=9)]) == ["ls", "ls"], "how long is no other method"
    mixed = config(plain, critic_method={"name": "famo", "lr": 1.0})
    assert named([mixed, config(plain)]) == ["ls actor, famo critic", "ls"]
    older = config(plain)
    older["agent"] = {}
    assert named([older, config(plain)]) == ["ls", "ls"], "a key that an older version lacks tells nothing apart"
    assert differences([config(plain), config({"name": "ls"}, seed=5), config({"name": "mgda"})]) == {
        "method.name": ["ls", "ls", "mgda"]
    }
