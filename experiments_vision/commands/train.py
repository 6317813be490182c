"""`train`: a new run, several of them (`-m`), or the rest of one (`resume=<folder>`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from experiments_vision.commands.program import TARGET, TRAIN
from experiments_vision.errors import VisionError
from experiments_vision.settings import VisionSettings, run_name, settings_from_mapping, to_settings, validate
from mtrl_surgery.cli.resuming import check_belongs, goes_on, resumed_mapping
from mtrl_surgery.runs.checkpoint import CheckpointStore, check_state
from mtrl_surgery.runs.console import say
from mtrl_surgery.runs.folder import NOTHING, RunFolder
from mtrl_surgery.runs.signals import end
from mtrl_surgery.shell import command, typed
from mtrl_surgery.sweeps.drive import run_or_sweep

if TYPE_CHECKING:
    from experiments_vision.training.world import World

FREE = (
    "epochs", "device", "threads", "log_every", "workers", "evaluate_every", "dataset.data_dir", "plugins",
    "checkpoint.", "logger.", "diagnostics.",
)  # fmt: skip
"""Keys that a resumed run may have otherwise (a trailing dot: the whole group). Device and threads change the bits
to come, never what was done."""


def main(words: Sequence[str]) -> int:
    """Compose the configuration and train; the exit code is the worst of all runs'."""
    return run_or_sweep(TARGET, train, words)


def train(config: DictConfig, overrides: Sequence[str]) -> None:
    """Do one run of the composed configuration; `overrides` are the words of the command line."""
    settings = _resumed(config, overrides) if goes_on(config) else to_settings(config)
    settings = dataclasses.replace(settings, folder=None)  # a folder that is moved must not say where it was
    validate(settings)
    import torch  # takes seconds to import: first everything that needs none

    from experiments_vision.training.assembly import resolve
    from experiments_vision.training.world import join

    settings = resolve(settings)
    with join(torch.device(settings.device)) as world, ExitStack() as stack:
        _train_as(world, settings, config.resume, config.folder, stack)


def _train_as(world: World, settings: VisionSettings, resume: str | None, folder: str | None, stack: ExitStack) -> None:
    from experiments_vision.training.assembly import build_trainer

    run: RunFolder | None = None
    checkpoint = None
    if resume is not None:
        # Read before the folder is opened for writing: a run that cannot go on keeps the status it has.
        found = RunFolder.open(Path(resume))
        checkpoint = CheckpointStore(found.checkpoints, settings.checkpoint.keep).newest()
        if checkpoint is None and folder is None:
            raise VisionError(f"resume={resume}: the run has no whole checkpoint to go on from")
        if checkpoint is not None:
            check_state(checkpoint, {"recorder": {"files": dict}, "step": int, "evaluated": int})
            where = checkpoint.path
            check_belongs(
                checkpoint, settings.to_mapping(), lambda own: settings_from_mapping(own, where).to_mapping(), FREE
            )
            if settings.epochs < (done := checkpoint.state["evaluated"]):
                raise VisionError(f"epochs={settings.epochs}: the run in {resume} has done {done} already")
        found.check(checkpoint.state["recorder"]["files"] if checkpoint is not None else NOTHING)
    if world.leads:
        if resume is None and folder is not None:
            run = RunFolder.begin(Path(folder), settings.to_mapping())
        elif resume is None:
            run = RunFolder.create(Path(settings.out), run_name(settings), settings.to_mapping())
        else:
            # A second resume must find what this one was told, or it would stop at the old number of epochs.
            run = RunFolder.open(Path(resume), writable=True, config=settings.to_mapping())
            if checkpoint is None:
                run.rewind(NOTHING)
        stack.enter_context(run)
        processes = f", {world.size} processes" if world.size > 1 else ""
        say(
            f"{run.path}: {settings.method.name} with {settings.model} on {settings.dataset.name}, "
            f"{settings.epochs} epochs on {settings.device} ({settings.threads} threads{processes})"
        )
    try:
        trainer = build_trainer(settings, world, run, checkpoint)
    except BaseException as error:
        if run is not None:
            end(run, error)
        raise
    trainer.run(checkpoint)
    if run is not None:
        path = typed(run.path)
        say(
            f"{run.path}: finished; its numbers: {command('experiments_vision', 'table', path)}; "
            f"its curves: {command('experiments_vision', 'report', path)}"
        )


def _resumed(config: DictConfig, overrides: Sequence[str]) -> VisionSettings:
    where = Path(config.resume) / "config.yaml"
    stored = settings_from_mapping(RunFolder.open(where.parent).config(), where).to_mapping()
    made = resumed_mapping(TRAIN, lambda own: to_settings(own).to_mapping(), config, overrides, stored, FREE)
    return settings_from_mapping(made, where)
