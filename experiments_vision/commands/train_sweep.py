"""What a sweep must know of `train`: the runs' folders, and what each takes of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from experiments_vision.commands.program import TRAIN
from experiments_vision.settings import VisionSettings, run_name, to_settings, validate
from mtrl_surgery.sweeps.folder import Measure
from mtrl_surgery.sweeps.plan import Description, Resources, SweepTarget, settled


def presets(words: Sequence[str]) -> list[str]:
    """A sweep's runs are as the command line has them."""
    return []


def describe(config: DictConfig, here: bool) -> Description:
    """Check a run's configuration, and say where it is written and what it takes.

    Raises:
        SettingsError, VisionError: it makes no sense, or cannot be part of a sweep.
    """
    settings = settled(to_settings(config), validate, _resolved, here)
    threads = settings.threads or 1
    because = f"threads={threads}, workers={settings.workers}"
    return Description(
        out=settings.out,
        name=run_name(settings),
        words=(f"threads={threads}", f"device={settings.device}"),
        resources=Resources(threads + settings.workers, float(settings.device.startswith("cuda")), because=because),
        measure=Measure("evaluations", "epoch", settings.epochs, "epochs"),
    )


def _resolved(settings: VisionSettings) -> VisionSettings:
    from experiments_vision.training.assembly import resolve  # torch takes seconds: first everything that needs none

    return resolve(settings)


TARGET = SweepTarget(TRAIN, "experiments_vision", presets, describe)
