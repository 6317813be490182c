"""`train`: a new run, several of them (`-m`), or the rest of one (`resume=<folder>`)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from omegaconf import DictConfig

from cluster.config import LearnerLost
from mtrl_surgery.cli.resuming import goes_on, resumed_mapping
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.trust import check_trusted
from mtrl_surgery.commands.program import TARGET, TRAIN, plain
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore, check_state
from mtrl_surgery.runs.console import learning_curve, say
from mtrl_surgery.runs.folder import NOTHING, RunFolder
from mtrl_surgery.runs.jsonl import read_rows
from mtrl_surgery.runs.signals import end
from mtrl_surgery.settings import (
    FREE,
    TrainSettings,
    check_made_with,
    env_imports,
    method_label,
    run_name,
    settings_from_mapping,
    to_settings,
    validate,
)
from mtrl_surgery.shell import command, typed
from mtrl_surgery.sweeps.drive import run_or_sweep

_STATE = {"mode": str, "step": int, "limiter": dict, "recorder": {"files": dict}, "policy_weights": np.ndarray}
"""What every checkpoint of a training run holds, as far as it is used before the run's parts are made."""


def main(words: Sequence[str]) -> int:
    """Compose the configuration and train; the exit code is the worst of all runs'."""
    return run_or_sweep(TARGET, train, words)


def train(config: DictConfig, overrides: Sequence[str]) -> Path:
    """Do one run of what hydra composed from the words of the command line; return its folder."""
    settings = _resumed(config, overrides) if goes_on(config) else to_settings(config)
    # A folder that is moved must not say where it was, and none says of itself that it is to be trusted.
    settings = dataclasses.replace(settings, folder=None, trust=False)
    validate(settings)
    from mtrl_surgery.assembly import check_room, resolve  # torch takes seconds: first everything that needs none

    settings = resolve(settings)
    if settings.learner.num == 1 or settings.cluster.kind != "ray":  # else the learners are on other machines
        check_room(settings)
    checkpoint = None
    if config.resume is None and config.folder is not None:
        run = RunFolder.begin(Path(config.folder), settings.to_mapping())
    elif config.resume is None:
        run = RunFolder.create(Path(settings.out), run_name(settings), settings.to_mapping())
    else:
        # Read before the folder is opened for writing: a run that cannot go on keeps the status it has.
        checkpoint = _newest_checkpoint(Path(config.resume), settings, needed=config.folder is None)
        # A second resume must find what this one was told, or it would stop at the old total_steps.
        run = RunFolder.open(Path(config.resume), writable=True, config=settings.to_mapping())
        if checkpoint is None:
            run.rewind(NOTHING)
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
    settings = settings_from_mapping(resumed_mapping(TRAIN, plain, config, overrides, stored, FREE), where)
    said, trust = to_settings(config), bool(config.trust)  # what the command line names itself is the user's wish
    names = [name for name in env_imports(settings.env) if name not in env_imports(said.env)]
    check_trusted(names, where.parent, trust, "env")
    address = settings.cluster.address
    if address not in (None, "auto", said.cluster.address) and not trust and not _here(str(address)):
        raise SettingsError(
            f"{where.parent}: cluster.address={address!r} is of another machine, whose cluster may run any code here; "
            f"name it (cluster.address={address}), or add trust=true"
        )
    return settings


def _here(address: str) -> bool:
    """Whether a cluster's address is one of this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _newest_checkpoint(path: Path, settings: TrainSettings, needed: bool) -> Checkpoint | None:
    run = RunFolder.open(path)
    checkpoint = CheckpointStore(run.checkpoints, settings.checkpoint.keep).newest()
    if checkpoint is None:
        if needed:
            raise SettingsError(f"resume={path}: the run has no whole checkpoint to go on from")
        run.check(NOTHING)
        return None
    check_made_with(checkpoint, settings)
    check_state(checkpoint, _STATE)
    run.check(checkpoint.state["recorder"]["files"])
    if settings.total_steps < checkpoint.step:
        raise SettingsError(f"total_steps={settings.total_steps}: the run in {path} has done {checkpoint.step} already")
    return checkpoint


def _go_on(path: Path, settings: TrainSettings, lost: LearnerLost) -> tuple[RunFolder, Checkpoint | None]:
    """The run again where its newest checkpoint has it; where there is none, at its beginning."""
    checkpoint = CheckpointStore(RunFolder.open(path).checkpoints, settings.checkpoint.keep).newest()
    step, updates = (checkpoint.step, checkpoint.state["limiter"]["updates"]) if checkpoint else (0, 0)
    run = RunFolder.open(path, writable=True)
    if checkpoint is None:
        run.rewind(NOTHING)
    # A learner that dies while it starts has done nothing yet.
    redone = {"redone_steps": max(0, lost.step - step), "redone_updates": max(0, lost.updates - updates)}
    run.health.write(
        {"step": step, "time": round(time.time(), 3), "event": "learners restarted", **redone, "reason": str(lost)}
    )
    say(
        f"{path}: {lost}; a new group goes on at step {step:,} and does {redone['redone_steps']:,} vector steps and "
        f"{redone['redone_updates']:,} updates again",
    )
    return run, checkpoint


def _train_in(run: RunFolder, settings: TrainSettings, checkpoint: Checkpoint | None) -> None:
    from mtrl_surgery.assembly import build_trainer

    _announce(run, settings, checkpoint)
    try:
        trainer = build_trainer(settings, run, checkpoint)
    except BaseException as error:
        end(run, error)
        raise
    last = trainer.run(checkpoint)
    _tell(run, last)


def _tell(run: RunFolder, last: Path) -> None:
    """The learning curve so far, and the commands for more."""
    rates: dict[int, list[float]] = {}
    for row in read_rows(run.path / "evaluations.jsonl"):
        rates.setdefault(row["step"], []).append(row["successes_any"] / row["episodes"])
    if len(rates) > 1:
        points = [(step, fmean(found)) for step, found in sorted(rates.items())]
        say(learning_curve(points, "mean success of all tasks, at any step of an episode"))
    path = typed(run.path)
    say(
        f"{run.path}: finished\n"
        f"  curves of every task, as a page: {command('mtrl_surgery', 'report', path)}\n"
        f"  {last.name} tested once more: {command('mtrl_surgery', 'evaluate', f'checkpoint={path}')}"
    )


def _announce(run: RunFolder, settings: TrainSettings, checkpoint: Checkpoint | None) -> None:
    tasks, cluster = settings.env.tasks, settings.cluster
    since = "" if checkpoint is None else f", going on at step {checkpoint.step:,}"
    say(
        f"{run.path}: {method_label(settings)} on {len(tasks)} tasks of {settings.env.name}, "
        f"{settings.agent.name} on {settings.device} ({settings.threads} threads), cluster {cluster.kind}{since}",
    )
    if settings.agent.warmup_steps >= settings.total_steps:
        say(
            f"note: nothing will be learned, since agent.warmup_steps={settings.agent.warmup_steps} lasts for all "
            f"total_steps={settings.total_steps}",
        )
