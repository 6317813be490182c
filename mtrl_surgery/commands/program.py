"""Train SAC on many tasks at once, with a gradient surgery method, or go on with a run.

usage: mtrl-surgery train [GROUP=OPTION ...] [KEY=VALUE ...]

Groups (GROUP=OPTION)
{groups}

Keys (KEY=VALUE, with the values of this command line)
{keys}

Keys of a sweep (with -m)
{sweep}

Examples:
  mtrl-surgery train env=mt10 method=samgs                       Meta-World+ MT10, 1,000,000 vector steps
  mtrl-surgery train experiment=easy3 method=samgs               three easy tasks: success within minutes
  mtrl-surgery train env=custom env.tasks=[reach-v3,drawer-close-v3] method=cagrad method.c=0.2
  mtrl-surgery train env=mt10 method=ls critic_method=famo       the networks may have different methods
  mtrl-surgery train -m method=ls,samgs 'seed=range(3)'          six runs as Ray tasks (docs/sweeps.md)
  mtrl-surgery train resume=runs/<run> total_steps=2000000       go on with a run

Flags: --cfg job shows the configuration without running, --info defaults the files that it is made of, -m runs every
combination. `mtrl-surgery methods` explains the methods and their options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from mtrl_surgery.cli import composition
from mtrl_surgery.settings import METHOD_KEYS, TrainSettings, to_settings
from mtrl_surgery.sweeps.options import SweepOptions

TRAIN = composition.Program(
    help=__doc__,
    config_module="configs",
    config_name="train",
    schema=TrainSettings,
    methods=METHOD_KEYS,
    optional=(*METHOD_KEYS[1:], "experiment"),
    beside={"sweep": SweepOptions},
)
"""What `train` is to hydra; `evaluate` and the completion ask it too."""


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `train` would have with these overrides."""
    return composition.compose(TRAIN, overrides)


def plain(config: Any) -> Mapping[str, Any]:
    """From a composed configuration to nested dictionaries."""
    return to_settings(config).to_mapping()
