from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_surgery.runs.folder import RunError, RunFolder
from mtrl_surgery.runs.sinks import LoggerConfig, make_sinks, scalars


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "a", {"seed": 1})


def rows(step: int, offset: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "task": None,
            "actor/conflict_rate": offset + step / 8,
            "note": "text",
            "gap": math.nan,
        },
        {"step": step, "task": "reach-v3", "critic/loss": np.float32(offset + step), "returns": [1.0]},
    ]


def read(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_only_finite_numbers_are_scalars_and_they_are_named_by_task() -> None:
    row = {
        "step": 5,
        "task": "t",
        "a": 1,
        "b": np.float32(0.5),
        "c": True,
        "d": None,
        "e": "x",
        "f": [1],
        "g": math.inf,
    }
    assert dict(scalars(row)) == {"t/a": 1.0, "t/b": 0.5, "t/c": 1.0}
    assert dict(scalars({"step": 5, "a": 1})) == {"run/a": 1.0}


def test_tensorboard_gets_the_rows(run: RunFolder) -> None:
    (sink,) = make_sinks(LoggerConfig(), run)
    sink.write(rows(1))
    sink.write(rows(2))
    sink.close()
    assert read(run) == {
        "run/actor/conflict_rate": [(1, 0.125), (2, 0.25)],
        "reach-v3/critic/loss": [(1, 1.0), (2, 2.0)],
    }


def test_a_resume_takes_the_place_of_what_was_after_the_checkpoint(run: RunFolder) -> None:
    (sink,) = make_sinks(LoggerConfig(), run)
    for step in (1, 2, 3, 4):
        sink.write(rows(step))
    sink.close()
    (sink,) = make_sinks(LoggerConfig(), run, purge_step=3)
    sink.write(rows(3, offset=10.0))
    sink.close()
    assert read(run)["reach-v3/critic/loss"] == [(1, 1.0), (2, 2.0), (3, 13.0)]


def test_no_sink_and_an_unknown_one(run: RunFolder) -> None:
    assert make_sinks(LoggerConfig(name="none"), run) == []
    with pytest.raises(RunError, match=r"logger.name='tb' is unknown; choices: tensorboard, wandb, none"):
        make_sinks(LoggerConfig(name="tb"), run)


def test_wandb_that_is_not_installed_is_named_with_the_cure(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RunError, match=r"-m pip install -e '.*\[wandb\]'"):
        make_sinks(LoggerConfig(name="wandb"), run)


def test_wandb_offline(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for start in (1, 2):  # the second is a resume
        (sink,) = make_sinks(LoggerConfig(name="wandb", mode="offline"), run, purge_step=start)
        sink.write(rows(start))
        sink.close()
    assert list(
        (run.path / "wandb").glob(f"offline-run-*-{json.loads((run.path / 'manifest.json').read_text())['id']}")
    )


def test_wandb_without_a_login_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no login is found there
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(RunError, match=r"logger=wandb \(mode=online\) does not start"):
        make_sinks(LoggerConfig(name="wandb"), run)
