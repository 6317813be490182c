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
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mtrl_surgery.cli import composition
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.settings import METHOD_KEYS, TrainSettings, run_name, to_settings, validate
from mtrl_surgery.sweeps.folder import Measure
from mtrl_surgery.sweeps.plan import Description, Resources, SweepOptions, SweepTarget, settled

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


_WORKERS = ("cluster", "cluster.kind", "cluster.workers", "cluster.address", "learner.num")
"""Keys that say where a run collects; who sets one of them knows what a run takes."""


def presets(words: Sequence[str]) -> list[str]:
    """Runs of a sweep collect in their own process: many at a time use the cores better than many workers of one."""
    named = {word.lstrip("+~").partition("=")[0] for word in words}
    return [] if named.intersection(_WORKERS) else ["cluster=inline"]


def describe(config: DictConfig, here: bool) -> Description:
    """Check a run's configuration, and say where it is written and what it takes.

    Raises:
        SettingsError, AgentError, ClusterError, EnvError: it makes no sense, or cannot be part of a sweep.
    """
    from mtrl_surgery.assembly import check_room, resolve  # and torch

    settings = settled(to_settings(config), validate, resolve, here)
    if here:
        check_room(settings)
    return Description(
        folder=Path(settings.out) / run_name(settings),
        words=(f"threads={settings.threads}", f"device={settings.device}"),
        resources=resources_of(settings),
        measure=Measure("metrics", "step", settings.total_steps, "steps"),
    )


def resources_of(settings: TrainSettings) -> Resources:
    """What a run takes, by its own settings.

    Raises:
        SettingsError: that would depend on the machine it comes to.
    """
    cluster, learner, threads = settings.cluster, settings.learner, settings.threads or 1
    gpus = learner.gpus if learner.gpus is not None else float(settings.device.startswith("cuda"))
    if cluster.kind == "inline":
        return Resources(threads, gpus, because=f"threads={threads}")
    if cluster.workers is None:
        raise SettingsError(
            f"cluster.workers=null: in a sweep, say how many workers a run of cluster={cluster.kind} has "
            f"(cluster.workers=N), or leave out cluster= for runs in one process each"
        )
    workers = min(cluster.workers, len(settings.env.tasks))
    because = f"threads={threads}, cluster.workers={workers}"
    if learner.num > 1:
        because += f", learner.num={learner.num}"
    if cluster.kind == "local":
        return Resources(workers + threads * learner.num, gpus * learner.num, because=because)
    if learner.num == 1:
        return Resources(threads, gpus, workers, because=because)
    each = threads if learner.cpus is None else learner.cpus
    return Resources(1, 0, workers + each * learner.num, gpus * learner.num, because)


TARGET = SweepTarget(TRAIN, "mtrl_surgery", presets, describe)
