"""Whole runs: what they write, that they learn, and that a cut changes no byte."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments_vision.__main__ import main
from experiments_vision.settings import OptimizerConfig, VisionSettings, settings_from_mapping
from experiments_vision.training import trainer as trainer_module
from experiments_vision.training.update import Update, evaluate
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.jsonl import read_rows
from mtrl_surgery.runs.signals import Interrupted
from mtrl_surgery.runs.sinks import LoggerConfig
from mtrl_surgery.tensors import NonFiniteError
from tests.vision.training.runs import digits, new_run, resume, train

FILES = ("metrics.jsonl", "evaluations.jsonl", "conflicts.jsonl")
LOOKS = DiagnosticsConfig(every=3)


def files(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in FILES}


def test_a_run_writes_its_rows(tmp_path: Path) -> None:
    path = train(digits("pcgrad", diagnostics=LOOKS), tmp_path)
    run = RunFolder.open(path)
    assert run.manifest()["status"] == "finished"
    assert settings_from_mapping(run.config(), path).method == METHODS["pcgrad"].config()

    metrics = read_rows(path / "metrics.jsonl")
    assert [(row["step"], row["task"]) for row in metrics] == [
        (step, task) for step in (3, 6, 8) for task in (None, "left", "right")
    ]
    assert all(row["loss"] > 0 for row in metrics)
    assert {"weights", "gradient_norm"} <= set(metrics[1])
    assert {"conflict_rate", "curvature", "normalised_curvature", "direction_norm"} <= set(metrics[0])

    evaluations = read_rows(path / "evaluations.jsonl")
    assert [(row["epoch"], row["split"], row["task"]) for row in evaluations] == [
        (epoch, split, task) for epoch in (1, 2) for split in ("val", "test") for task in ("left", "right")
    ]
    assert all(row["examples"] == 256 and 0 <= row["pooled/accuracy_left"] <= 1 for row in evaluations[::2])
    epochs = [row for row in read_rows(path / "health.jsonl") if row["event"] == "epoch"]
    assert [row["updates"] for row in epochs] == [4, 4]
    assert all(row["train_seconds"] > 0 for row in epochs)


@pytest.mark.parametrize("method", ["ls", "pcgrad", "samgs"])
def test_who_fought_whom_is_a_row_of_the_looks_since_the_last(method: str, tmp_path: Path) -> None:
    settings = digits(method, diagnostics=DiagnosticsConfig(every=2))
    rows = read_rows(train(settings, tmp_path) / "conflicts.jsonl")
    # Looks at the updates 0, 2, 4 and 6; rows after 3, 6 and 8 of them.
    assert [(row["step"], row["update"], row["looks"]) for row in rows] == [(3, 3, 2), (6, 6, 1), (8, 8, 1)]
    assert {(row["network"], *row["tasks"]) for row in rows} == {("shared parameters", "left", "right")}

    each = read_rows(train(dataclasses.replace(settings, log_every=1), tmp_path) / "metrics.jsonl")
    seen = {row["step"]: row for row in each if row["task"] is None}
    for row, after in zip(rows, ((1, 3), (5,), (7,)), strict=True):
        for name, key in {
            "cosine": "mean_cosine",
            "similarity": "magnitude_similarity",
            "conflict": "conflict_rate",
        }.items():
            mean = math.fsum(seen[step][key] for step in after) / len(after)
            assert row[name] == [pytest.approx(mean, abs=5.1e-5)]
    by_task = [row for row in each if row["step"] == 7 and row["task"] is not None]
    assert all(-1 <= row["alignment"] <= 1 and row["alignment"] != 0 for row in by_task)


def test_a_report_shows_the_map(tmp_path: Path) -> None:
    for method in ("ls", "pcgrad"):
        train(digits(method, diagnostics=LOOKS), tmp_path / "runs")
    assert main(["report", str(tmp_path / "runs"), f"out={tmp_path / 'report.html'}", "png=false"]) == 0
    assert 'id="multidigits-lenet-conflict_map"' in (tmp_path / "report.html").read_text()
    with (tmp_path / "report" / "conflict_map.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["network"], row["method"]) for row in rows} == {
        ("shared parameters", name) for name in ("ls", "pcgrad")
    }
    assert {(row["task"], row["other"]) for row in rows} == {("left", "right")}
    did = (tmp_path / "report" / "methods_did.csv").read_text()
    assert all(f"shared parameters,{measure}," in did for measure in ("weight", "direction", "gradient length"))


def test_looks_at_features_are_told_from_looks_at_parameters(tmp_path: Path) -> None:
    features = train(digits("pcgrad", epochs=1, features=True), tmp_path)
    assert [row["network"] for row in read_rows(features / "conflicts.jsonl")] == ["shared features"]
    blind = train(digits("pcgrad", epochs=1, diagnostics=DiagnosticsConfig(every=0)), tmp_path)
    assert not (blind / "conflicts.jsonl").exists()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "torchjd"])
def test_every_method_trains(method: str, tmp_path: Path) -> None:
    path = train(digits(method, epochs=1), tmp_path)
    last = read_rows(path / "metrics.jsonl")[-3]
    assert last["step"] == 4
    assert math.isfinite(last["loss"])


def test_a_run_learns(tmp_path: Path) -> None:
    path = train(digits("ls", epochs=30, evaluate_every=30), tmp_path)
    losses = [row["loss"] for row in read_rows(path / "metrics.jsonl") if row["task"] is None]
    first, last = losses[0], losses[-1]
    assert last < 0.7 * first


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    once, again = (files(train(digits("rlw"), tmp_path / name)) for name in "ab")
    other = files(train(digits("rlw", seed=1), tmp_path / "c"))
    assert once == again
    assert all(once[name] != other[name] for name in FILES)


@pytest.mark.parametrize("method", ["samgs", "famo", "moco"])
@pytest.mark.parametrize("at", [2, 4, 5])
def test_a_signal_leaves_a_checkpoint_that_goes_on_to_the_same_bytes(
    method: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = digits(method, diagnostics=LOOKS)
    whole = files(train(settings, tmp_path / "whole"))
    monkeypatch.setattr("experiments_vision.training.trainer.LOOK", 1)
    update = Update.__call__

    def interrupted(self: Update, number: int, micro_batches: Any) -> None:
        update(self, number, micro_batches)
        if number + 1 == at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Update, "__call__", interrupted)
    run, trainer = new_run(settings, tmp_path / "cut")
    with run, pytest.raises(Interrupted):
        trainer.run()
    assert run.manifest()["status"] == "interrupted"
    assert trainer.step == at
    monkeypatch.setattr(Update, "__call__", update)
    assert files(resume(run.path, settings)) == whole


def test_a_signal_in_an_evaluation_has_it_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = digits()
    whole = files(train(settings, tmp_path / "whole"))

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return evaluate(*arguments)

    monkeypatch.setattr(trainer_module, "evaluate", interrupted)
    run, trainer = new_run(settings, tmp_path / "cut")
    with run, pytest.raises(Interrupted):
        trainer.run()
    assert read_rows(run.path / "evaluations.jsonl") == []
    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    assert files(resume(run.path, settings)) == whole


def test_more_epochs_continue_a_finished_run_as_if_they_had_been_asked_for(tmp_path: Path) -> None:
    whole = files(train(digits(epochs=3, log_every=4), tmp_path / "whole"))
    path = train(digits(epochs=2, log_every=4), tmp_path / "first")
    assert files(resume(path, digits(epochs=3, log_every=4))) == whole


@pytest.mark.parametrize("method", ["ls", "mgda", "samgs", "famo"])
def test_micro_batches_do_what_the_whole_batch_does(method: str, tmp_path: Path) -> None:
    whole, cut = (
        read_rows(train(digits(method, accumulate=parts, epochs=1), tmp_path / str(parts)) / "metrics.jsonl")
        for parts in (1, 4)
    )
    for one, other in zip(whole, cut, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_surgery_at_features_is_another_run(tmp_path: Path) -> None:
    exact, features = (
        read_rows(train(digits("pcgrad", features=features), tmp_path / str(features)) / "metrics.jsonl")
        for features in (False, True)
    )
    assert features[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.2)
    assert features[-3]["direction_norm"] != exact[-3]["direction_norm"]


def test_bfloat16_trains_near_float32(tmp_path: Path) -> None:
    full, half = (
        read_rows(train(digits("samgs", precision=precision), tmp_path / precision) / "metrics.jsonl")
        for precision in ("float32", "bfloat16")
    )
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.05)
    assert half[0]["loss"] != full[0]["loss"]


def test_a_loss_that_is_not_finite_ends_the_run_and_names_task_and_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = digits("pcgrad", epochs=1, log_every=2, diagnostics=DiagnosticsConfig(every=0))
    run, trainer = new_run(settings, tmp_path)
    losses = type(trainer.objective).losses
    calls: list[int] = []

    def spoilt(self: Any, outputs: Any, targets: Any) -> list[torch.Tensor]:
        found = losses(self, outputs, targets)
        calls.append(0)
        return [found[0], found[1] * math.nan] if len(calls) == 2 else found

    monkeypatch.setattr(type(trainer.objective), "losses", spoilt)
    with run, pytest.raises(NonFiniteError, match="update 1: the loss or gradient of right"):
        trainer.run()
    assert run.manifest()["status"] == "failed"
    assert read_rows(run.path / "metrics.jsonl") == []


def test_a_tensorboard_file_is_written(tmp_path: Path) -> None:
    path = train(digits(epochs=1, logger=LoggerConfig(name="tensorboard", console=True)), tmp_path)
    assert list((path / "tensorboard").iterdir())


def test_the_rate_falls_by_epochs_and_a_resume_has_it(tmp_path: Path) -> None:
    config = OptimizerConfig(lr=0.01, schedule="step", step_epochs=1, factor=0.1)
    _, trainer = new_run(digits(optimizer=config, epochs=3), tmp_path)
    trainer.run()
    assert trainer.rates.rate == pytest.approx(1e-4)


def test_the_rate_falls_when_the_score_stands_still(tmp_path: Path) -> None:
    config = OptimizerConfig(lr=1e-12, schedule="plateau", factor=0.5, patience=0, min_lr=3e-13)
    settings: VisionSettings = digits(optimizer=config, epochs=4, log_every=4)
    _, trainer = new_run(settings, tmp_path)
    trainer.run()
    assert trainer.rates.rate == pytest.approx(3e-13)
    short = train(dataclasses.replace(settings, epochs=2), tmp_path / "short")
    assert files(resume(short, settings)) == files(trainer.recorder._run.path)  # type: ignore[union-attr]
