"""What `train` is to hydra; `evaluate` and the completion ask it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from mtrl_surgery.cli import composition
from mtrl_surgery.settings import METHOD_KEYS, TrainSettings, to_settings
from mtrl_surgery.sweeps.options import SweepOptions

TRAIN = composition.Program(
    name="mtrl-surgery train",
    module="mtrl_surgery.commands.train",
    config_module="configs",
    config_name="train",
    schema=TrainSettings,
    methods=METHOD_KEYS,
    optional=(*METHOD_KEYS[1:], "experiment"),
    beside={"sweep": SweepOptions},
)


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `train` would have with these overrides."""
    return composition.compose(TRAIN, overrides)


def plain(config: Any) -> Mapping[str, Any]:
    """From a composed configuration to nested dictionaries."""
    return to_settings(config).to_mapping()
