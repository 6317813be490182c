"""Small supervised runs in this process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments_vision.data.registry import DataConfig
from experiments_vision.settings import VisionSettings, run_name
from experiments_vision.training.assembly import build_trainer, resolve
from experiments_vision.training.trainer import VisionTrainer
from experiments_vision.training.world import World
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.sinks import LoggerConfig

QUIET = LoggerConfig(name="none", console=False)


def digits(method: str = "samgs", **changes: Any) -> VisionSettings:
    """Two epochs of four updates on 256 pictures, a row every third update."""
    base = VisionSettings(
        dataset=DataConfig(limit=256),
        method=METHODS[method].config(),
        epochs=2,
        batch_size=64,
        log_every=3,
        logger=QUIET,
        device="cpu",
        threads=1,
    )
    return dataclasses.replace(base, **changes)


def new_run(settings: VisionSettings, out: Path) -> tuple[RunFolder, VisionTrainer]:
    """A fresh run's folder, open, and its trainer."""
    settings = resolve(settings)
    run = RunFolder.create(out, run_name(settings), settings.to_mapping())
    return run, build_trainer(settings, World(), run)


def train(settings: VisionSettings, out: Path) -> Path:
    """A whole run; returns its folder."""
    run, trainer = new_run(settings, out)
    with run:
        trainer.run()
    return run.path


def resume(path: Path, settings: VisionSettings) -> Path:
    """The rest of a run."""
    settings = resolve(settings)
    checkpoint = CheckpointStore(path / "checkpoints", settings.checkpoint.keep).newest()
    assert checkpoint is not None
    with RunFolder.open(path, writable=True) as run:
        build_trainer(settings, World(), run, checkpoint).run(checkpoint)
    return path
