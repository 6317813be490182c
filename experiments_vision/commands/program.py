"""What `train` is to hydra; a sweep and the completion ask it too."""

from __future__ import annotations

from experiments_vision.settings import VisionSettings
from mtrl_surgery.cli.composition import Program
from mtrl_surgery.sweeps.options import SweepOptions

TRAIN = Program(
    name="python -m experiments_vision train",
    module="experiments_vision.commands.train",
    config_module="experiments_vision.configs.supervised",
    config_name="supervised",
    schema=VisionSettings,
    beside={"sweep": SweepOptions},
)
