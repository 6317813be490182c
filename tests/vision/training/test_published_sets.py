"""Whole runs on small trees in the published layouts, with the published networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from experiments_vision.data.registry import DataConfig
from experiments_vision.settings import VisionSettings
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.famo import FamoConfig
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.jsonl import read_rows
from tests.vision.data import trees
from tests.vision.training.runs import QUIET, new_run, resume, train

SMALL = VisionSettings(epochs=1, batch_size=4, log_every=1, logger=QUIET, device="cpu", threads=1)


def settings(name: str, folder: Path, method: str, **changes: object) -> VisionSettings:
    data = DataConfig(name=name, data_dir=str(folder), validation=0.25 if name in ("nyuv2", "cityscapes") else 0.0)
    return dataclasses.replace(SMALL, dataset=data, method=METHODS[method].config(), **changes)  # type: ignore[arg-type]


def test_batch_norm_sees_every_training_batch_once(tmp_path: Path) -> None:
    """Neither FAMO's second pass, nor a look's curvature, nor an evaluation counts."""
    trees.write_celeba(tmp_path / "faces", train=4, val=2, test=2)
    looks = DiagnosticsConfig(every=2)
    run, trainer = new_run(
        dataclasses.replace(
            settings("celeba", tmp_path / "faces", "famo", model="convnet", batch_size=2, diagnostics=looks),
            method=FamoConfig(compare_every=1),
        ),
        tmp_path / "runs",
    )
    with run:
        trainer.run()
    buffers = dict(trainer.update.model.named_buffers())
    counts = {name: int(value) for name, value in buffers.items() if name.endswith("num_batches_tracked")}
    assert counts
    assert set(counts.values()) == {2}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [("nyuv2", "mtan"), ("cityscapes", "segnet")])
def test_dense_sets_train_with_workers_and_resume_to_the_bit(name: str, model: str, tmp_path: Path) -> None:
    write = trees.write_nyuv2 if name == "nyuv2" else trees.write_cityscapes
    write(tmp_path / "data", train=6, val=2)
    short = settings(name, tmp_path / "data", "pcgrad", model=model, batch_size=2, workers=2)
    longer = dataclasses.replace(short, epochs=2)
    whole = train(longer, tmp_path / "whole")
    cut = resume(train(short, tmp_path / "cut"), dataclasses.replace(longer, workers=0))
    for file in ("metrics.jsonl", "evaluations.jsonl"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes()
    rows = read_rows(whole / "evaluations.jsonl")
    assert {row["split"] for row in rows} == {"val", "test"}
    assert all(row["pooled/miou"] >= 0 for row in rows if row["task"] == "segmentation")
