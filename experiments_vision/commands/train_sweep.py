"""What a sweep must know of `train`: the runs' folders, and what each takes of a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from omegaconf import DictConfig

from experiments_vision.commands.train import TRAIN
from experiments_vision.settings import run_name, to_settings, validate
from mtrl_surgery.sweeps.measure import Measure
from mtrl_surgery.sweeps.plan import Description, Need, Trainee, one_run_only, resolve_on


def presets(words: Sequence[str]) -> list[str]:
    """A sweep's runs are as the command line has them."""
    return []


def describe(config: DictConfig, here: bool) -> Description:
    """Check a run's configuration, and say where it is written and what it takes.

    Raises:
        SettingsError, VisionError: it makes no sense, or cannot be part of a sweep.
    """
    settings = to_settings(config)
    one_run_only("resume", settings.resume)
    one_run_only("folder", settings.folder)
    threads = 1 if settings.threads is None else settings.threads
    settings = dataclasses.replace(settings, threads=threads)
    validate(settings)
    from experiments_vision.training.assembly import resolve  # torch takes seconds: first everything that needs none

    settings = resolve_on(resolve, settings, here)
    because = f"threads={threads}, workers={settings.workers}"
    return Description(
        out=settings.out,
        name=run_name(settings),
        words=(f"threads={threads}", f"device={settings.device}"),
        need=Need(threads + settings.workers, float(settings.device.startswith("cuda")), because=because),
        measure=Measure("evaluations", "epoch", settings.epochs, "epochs"),
    )


TRAINEE = Trainee(TRAIN, "experiments_vision", presets, describe)
