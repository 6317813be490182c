"""Train a network for many tasks on one data set, with a gradient surgery method, or go on with a run.

usage: python -m experiments_vision train [GROUP=OPTION ...] [KEY=VALUE ...]

Groups (GROUP=OPTION)
{groups}

Keys (KEY=VALUE, with the values of this command line)
{keys}

Keys of a sweep (with -m)
{sweep}

Examples:
  python -m experiments_vision train method=samgs                            two overlaid digits: a minute, no download
  python -m experiments_vision train dataset=nyuv2 dataset.data_dir=~/nyuv2 model=mtan method=cagrad method.c=0.4
  python -m experiments_vision train -m method=ls,samgs seed=0,1,2           six runs as Ray tasks; sweep.* says how
  python -m experiments_vision train -m method=stl method.task=0,1           single-task baselines
  python -m experiments_vision train resume=runs/vision/<run> epochs=40      go on with a run
  torchrun --nproc-per-node 4 -m experiments_vision train dataset=celeba ... four GPUs

`python -m experiments_vision check dataset=nyuv2 data_dir=...` looks at the files first; `table runs/vision` compares.
Flags: --cfg job shows the configuration without running, --info defaults the files that it is made of, -m runs every
combination. `mtrl-surgery methods` explains the methods and their options.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments_vision.settings import VisionSettings, run_name, to_settings, validate
from mtrl_surgery.cli.composition import Program
from mtrl_surgery.sweeps.folder import Measure
from mtrl_surgery.sweeps.plan import Description, Resources, SweepOptions, SweepTarget, settled

TRAIN = Program(
    help=__doc__,
    config_module="experiments_vision.configs.supervised",
    config_name="supervised",
    schema=VisionSettings,
    beside={"sweep": SweepOptions},
)
"""The configuration of `train`, for hydra."""


def describe(config: DictConfig, here: bool) -> Description:
    """Check a run's configuration, and say where it is written and what it takes.

    Raises:
        SettingsError, VisionError: it makes no sense, or cannot be part of a sweep.
    """
    from experiments_vision.training.assembly import resolve  # and torch

    settings = settled(to_settings(config), validate, resolve, here)
    threads = settings.threads or 1
    because = f"threads={threads}, workers={settings.workers}"
    return Description(
        folder=Path(settings.out) / run_name(settings),
        words=(f"threads={threads}", f"device={settings.device}"),
        resources=Resources(threads + settings.workers, float(settings.device.startswith("cuda")), because=because),
        measure=Measure("evaluations", "epoch", settings.epochs, "epochs"),
    )


TARGET = SweepTarget(TRAIN, "experiments_vision", lambda words: [], describe)
