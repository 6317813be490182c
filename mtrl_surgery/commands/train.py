"""`train`: a new run, several of them (`-m`), or the rest of one (`resume=<folder>`)."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig

from cluster.learner_config import LearnerLost
from mtrl_surgery.cli.composition import run_all
from mtrl_surgery.cli.resuming import goes_on, resumed_mapping
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.commands.program import TRAIN, plain
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.durable import write_text
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import (
    TrainSettings,
    method_label,
    run_name,
    settings_from_mapping,
    to_settings,
    validate,
)
from mtrl_surgery.sweeps.options import is_sweep, one_run

FREE = (
    "total_steps",
    "device",
    "threads",
    "log_every",
    "cluster.kind",
    "cluster.address",
    "cluster.workers",
    "cluster.max_restarts",
    "cluster.hang_timeout",
    "cluster.start_timeout",
    "cluster.object_store_mb",
    "learner.cpus",
    "learner.gpus",
    "learner.timeout",
    "learner.max_restarts",
    "evaluation.",
    "checkpoint.",
    "logger.",
    "diagnostics.",
)
"""Keys that a resumed run may have otherwise (a trailing dot: the whole group). Device and threads change the bits to
come, never what was done; whoever moves a run to another machine needs them."""


def main(words: Sequence[str]) -> int:
    """Compose the configuration and train; the exit code is the worst of all runs'."""
    if is_sweep(words):
        from mtrl_surgery.commands.train_sweep import TRAINEE
        from mtrl_surgery.sweeps.drive import sweep

        return sweep(TRAINEE, words)
    return run_all(TRAIN, train, one_run(words))


def train(config: DictConfig, overrides: Sequence[str]) -> Path:
    """Do one run.

    Args:
        config: what hydra composed.
        overrides: the words of the command line.

    Returns:
        The run folder.
    """
    settings = _resumed(config, overrides) if goes_on(config) else to_settings(config)
    settings = dataclasses.replace(settings, folder=None)  # a folder that is moved must not say where it was
    validate(settings)
    from mtrl_surgery.assembly import (
        resolve,
    )  # torch takes seconds to import: first everything that needs none

    settings = resolve(settings)
    checkpoint = None
    if config.resume is None and config.folder is not None:
        run = RunFolder.begin(Path(config.folder), settings.to_mapping())
    elif config.resume is None:
        run = RunFolder.create(Path(settings.out), run_name(settings), settings.to_mapping())
    else:
        # Read before the folder is opened for writing: a run that cannot go on keeps the status it has.
        checkpoint = _newest_checkpoint(Path(config.resume), settings, needed=config.folder is None)
        run = RunFolder.open(Path(config.resume), writable=True)
        if checkpoint is None:
            run.rewind({"metrics": 0, "evaluations": 0})
        # A second resume must find what this one was told, or it would stop at the old total_steps.
        write_text(run.path / "config.yaml", yaml.safe_dump(settings.to_mapping(), sort_keys=False))
    for left in reversed(range(settings.learner.max_restarts + 1)):
        with run:
            try:
                _train_in(run, settings, checkpoint)
                break
            except LearnerLost as lost:
                if left == 0:
                    raise
                cause = lost
        run, checkpoint = _go_on(run.path, settings, cause)
    return run.path


def _resumed(config: DictConfig, overrides: Sequence[str]) -> TrainSettings:
    where = Path(config.resume) / "config.yaml"
    stored = settings_from_mapping(RunFolder.open(where.parent).config(), where).to_mapping()
    return settings_from_mapping(resumed_mapping(TRAIN, plain, config, overrides, stored, FREE), where)


def _newest_checkpoint(path: Path, settings: TrainSettings, needed: bool) -> Checkpoint | None:
    checkpoint = CheckpointStore(RunFolder.open(path).checkpoints, settings.checkpoint.keep).newest()
    if checkpoint is None:
        if needed:
            raise SettingsError(f"resume={path}: the run has no whole checkpoint to go on from")
        return None
    if settings.total_steps < checkpoint.step:
        raise SettingsError(f"total_steps={settings.total_steps}: the run in {path} has done {checkpoint.step} already")
    return checkpoint


def _go_on(path: Path, settings: TrainSettings, lost: LearnerLost) -> tuple[RunFolder, Checkpoint | None]:
    """The run again where its newest checkpoint has it; where there is none, at its beginning."""
    checkpoint = CheckpointStore(RunFolder.open(path).checkpoints, settings.checkpoint.keep).newest()
    step, updates = (checkpoint.step, checkpoint.state["limiter"]["updates"]) if checkpoint else (0, 0)
    run = RunFolder.open(path, writable=True)
    if checkpoint is None:
        run.rewind({"metrics": 0, "evaluations": 0})
    # A learner that dies while it starts has done nothing yet.
    redone = {"redone_steps": max(0, lost.step - step), "redone_updates": max(0, lost.updates - updates)}
    run.health.write(
        {"step": step, "time": round(time.time(), 3), "event": "learners restarted", **redone, "reason": str(lost)}
    )
    print(
        f"{path}: {lost}; a new group goes on at step {step:,} and does {redone['redone_steps']:,} vector steps and "
        f"{redone['redone_updates']:,} updates again",
        file=sys.stderr,
    )
    return run, checkpoint


def _train_in(run: RunFolder, settings: TrainSettings, checkpoint: Checkpoint | None) -> None:
    from mtrl_surgery.assembly import build_trainer

    _announce(run, settings, checkpoint)
    try:
        trainer = build_trainer(settings, run, checkpoint)
    except BaseException as error:
        run.end(error)
        raise
    last = trainer.run(checkpoint)
    print(f"{run.path}: finished; evaluate checkpoint={run.path} tests {last.name} once more", file=sys.stderr)


def _announce(run: RunFolder, settings: TrainSettings, checkpoint: Checkpoint | None) -> None:
    tasks, cluster = settings.env.tasks, settings.cluster
    since = "" if checkpoint is None else f", going on at step {checkpoint.step:,}"
    print(
        f"{run.path}: {method_label(settings)} on {len(tasks)} tasks of {settings.env.name}, "
        f"{settings.agent.name} on {settings.device} ({settings.threads} threads), cluster {cluster.kind}{since}",
        file=sys.stderr,
    )
    if settings.agent.warmup_steps >= settings.total_steps:
        print(
            f"note: nothing will be learned, since agent.warmup_steps={settings.agent.warmup_steps} lasts for all "
            f"total_steps={settings.total_steps}",
            file=sys.stderr,
        )
