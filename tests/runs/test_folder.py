from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtrl_surgery.runs.checkpoint import CheckpointConfig
from mtrl_surgery.runs.folder import RunError, RunFolder, read_rows
from mtrl_surgery.runs.manifest import PACKAGES, git_revision
from mtrl_surgery.runs.sinks import LoggerConfig

CONFIG: dict[str, Any] = {
    "seed": 3,
    "env": {"name": "mt10", "tasks": ["reach-v3"], "rate": 3e-4},
    "none": None,
}


def test_a_new_run_has_config_and_manifest(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "deep" / "out", "mt10_samgs", CONFIG) as run:
        assert run.path == tmp_path / "deep" / "out" / "mt10_samgs"
        assert run.config() == CONFIG == yaml.safe_load((run.path / "config.yaml").read_text())
        manifest = run.manifest()
    assert (manifest["status"], manifest["seed"], manifest["run"]) == ("running", 3, "mt10_samgs")
    assert manifest["host"] == socket.gethostname() and manifest["pid"] == os.getpid()
    assert manifest["versions"].keys() == set(PACKAGES) and manifest["versions"]["numpy"]
    assert manifest["processor"].split()
    assert manifest["python"].startswith("3.") and manifest["cpus"] >= 1 and manifest["started"] and manifest["command"]


def test_the_manifest_needs_no_heavy_import() -> None:
    code = (
        "import sys; from mtrl_surgery.runs import checkpoint, console, folder, manifest, sinks;"
        "manifest.session(); heavy = {'torch', 'ray', 'metaworld', 'mujoco', 'tensorboard', 'wandb'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout.strip() == "[]"


def test_taken_names_get_numbers(tmp_path: Path) -> None:
    runs = [RunFolder.create(tmp_path, "a", {}) for _ in range(3)]
    assert [run.path.name for run in runs] == ["a", "a-2", "a-3"]
    assert len({run.manifest()["id"] for run in runs}) == 3
    for run in runs:
        run.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".tmp-a", "a\0"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="name="):
        RunFolder.create(tmp_path, name, {})


def test_a_config_that_yaml_cannot_hold_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="configuration cannot be written"):
        RunFolder.create(tmp_path, "a", {"x": object()})
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RunError, match=r"out=.*cannot make a run folder there"):
        RunFolder.create(tmp_path / "out", "a", {})


def test_opening_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(RunError, match=r"config.yaml and manifest.json missing"):
        RunFolder.open(tmp_path)
    RunFolder.create(tmp_path, "a", {}).close()
    (tmp_path / "a" / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"no run folder: manifest.json missing"):
        RunFolder.open(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot read .*manifest.json"):
        RunFolder.open(tmp_path / "a")
    RunFolder.create(tmp_path, "b", {}).close()
    (tmp_path / "b" / "config.yaml").write_text("- 1")
    with pytest.raises(RunError, match=r"config.yaml holds a list"):
        RunFolder.open(tmp_path / "b").config()


def test_the_end_of_a_run_and_its_resumes_are_noted(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "a", CONFIG) as run:
        run.finish("interrupted")
        first = run.manifest()
    assert first["status"] == "interrupted" and first["finished"]
    with RunFolder.open(run.path, writable=True) as run:
        second = run.manifest()
        assert (second["status"], second["finished"], second["id"]) == ("running", None, first["id"])
        assert [one["before"] for one in second["resumed"]] == ["interrupted"]
        run.finish("failed", "boom")
    with RunFolder.open(run.path) as run:
        assert (run.manifest()["status"], run.manifest()["error"]) == ("failed", "boom")
        with pytest.raises(RunError, match="not open for writing"):
            run.finish("finished")
        with pytest.raises(RunError, match="not open for writing"):
            _ = run.metrics
    with (
        RunFolder.open(run.path, writable=True) as run,
        pytest.raises(RunError, match="choices: finished, interr"),
    ):
        run.finish("done")  # type: ignore[arg-type]


def test_a_resume_can_change_the_config(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "a", CONFIG).close()
    RunFolder.open(tmp_path / "a", writable=True, config=CONFIG | {"total_steps": 5}).close()
    with pytest.raises(RunError, match="configuration cannot be written"):
        RunFolder.open(tmp_path / "a", writable=True, config={"x": object()})
    assert RunFolder.open(tmp_path / "a").config() == CONFIG | {"total_steps": 5}


def test_two_writers_are_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "a", {})
    code = (
        "import sys, pathlib; from mtrl_surgery.runs.folder import RunFolder as R\n"
        "R.open(pathlib.Path(sys.argv[1]))\n"
        "R.open(pathlib.Path(sys.argv[1]), writable=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, cwd=os.getcwd())
    assert done.returncode == 1
    assert f"is being written by process {os.getpid()} on {socket.gethostname()}" in done.stderr
    with pytest.raises(RunError, match="two processes cannot write one run"):
        RunFolder.open(run.path, writable=True)
    run.close()
    RunFolder.open(run.path, writable=True).close()


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from mtrl_surgery.runs.folder import RunFolder as R\n"
        "R.create(pathlib.Path(sys.argv[1]), 'a', {}).metrics.write({'a': 1}); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=os.getcwd())
    assert done.returncode == -9
    with RunFolder.open(tmp_path / "a", writable=True) as run:
        assert run.manifest()["resumed"][0]["before"] == "running"
        assert read_rows(run.path / "metrics.jsonl") == [{"a": 1}]


def test_a_resume_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    whole, broken = RunFolder.create(tmp_path, "whole", {}), RunFolder.create(tmp_path, "broken", {})
    rows = [{"step": step, "loss": step / 3} for step in range(10)]
    for row in rows:
        whole.metrics.write(row)
    for row in rows[:5]:
        broken.metrics.write(row)
    positions = broken.positions()
    for row in rows[5:8]:  # after the checkpoint, lost
        broken.metrics.write(row)
        broken.evaluations.write(row)
        broken.health.write({"wall_s": 1.0})
    broken.close()
    with RunFolder.open(broken.path, writable=True) as run:
        run.rewind(positions)
        for row in rows[5:]:
            run.metrics.write(row)
    whole.close()
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()
    assert read_rows(broken.path / "evaluations.jsonl") == []
    assert len(read_rows(broken.path / "health.jsonl")) == 3


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))


@settings(max_examples=25, deadline=None)
@example({"a": "\x85"})
@given(st.dictionaries(st.text("abc.é", min_size=1), values | st.lists(values), max_size=5))
def test_any_config_survives_yaml(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    with RunFolder.create(tmp_path_factory.mktemp("out"), "a", config) as run:
        assert run.config() == config


def test_git_says_revision_and_dirt(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "a.py").write_text("")
    assert git_revision(tmp_path / "a.py") is None
    git("init")
    assert git_revision(tmp_path / "a.py") is None  # in a repository, but none of its files
    git("add", "a.py")
    git("commit", "-m", "a")
    found = git_revision(tmp_path / "a.py")
    assert found is not None and len(found["revision"]) == 40 and found["dirty"] is False
    (tmp_path / "a.py").write_text("x")
    assert git_revision(tmp_path / "a.py") == found | {"dirty": True}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            LoggerConfig(name="tensorbord"),
            "logger.name='tensorbord' is unknown; choices: tensorboard, wandb, none",
        ),
        (LoggerConfig(mode="on"), "logger.mode='on' is unknown; choices: online, offline, disabled"),
        (CheckpointConfig(every=0), "checkpoint.every=0 must be at least 1"),
        (CheckpointConfig(keep=0), "checkpoint.keep=0 must be at least 1"),
    ],
)
def test_bad_options_are_named(config: LoggerConfig | CheckpointConfig, message: str) -> None:
    with pytest.raises(RunError, match=message):
        config.validate()
    LoggerConfig().validate()
    CheckpointConfig().validate()


def test_maps_of_conflicts_are_cut_back_with_the_other_rows(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", {"seed": 0}) as run:
        assert "conflicts" not in run.positions() and not (run.path / "conflicts.jsonl").exists()
        before = run.positions()
        run.conflicts.write({"step": 1})
        first = run.positions()
        run.conflicts.write({"step": 2})
        run.rewind(first)
        assert read_rows(run.path / "conflicts.jsonl") == [{"step": 1}]
    with RunFolder.open(run.path, writable=True) as again:
        again.rewind(before)  # of before the first map
        assert read_rows(run.path / "conflicts.jsonl") == []
