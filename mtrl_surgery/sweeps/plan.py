"""The runs of a sweep before any work: where each is written, what it needs, and that no two are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from mtrl_surgery.cli.composition import Program, compose, composing
from mtrl_surgery.cli.expansion import expand
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.packages import PACKAGES
from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.sweeps.errors import SweepError
from mtrl_surgery.sweeps.options import SweepOptions
from mtrl_surgery.sweeps.standing import Measure

S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class Resources:
    """What a run takes of a cluster.

    Attributes:
        cpus: CPUs of the node that its process runs on.
        gpus: GPUs of the same node.
        apart_cpus: CPUs that the run itself takes anywhere in the cluster, where it joins that (`cluster=ray`).
        apart_gpus: The same of GPUs.
        because: The settings that it comes from.
    """

    cpus: float
    gpus: float
    apart_cpus: float = 0.0
    apart_gpus: float = 0.0
    because: str = ""

    @property
    def joins(self) -> bool:
        """Whether the run joins the sweep's cluster with workers of its own."""
        return self.apart_cpus > 0 or self.apart_gpus > 0


@dataclass(frozen=True)
class Description:
    """What a command tells of a run that was composed for it.

    Attributes:
        out: The folder that run folders are made in.
        name: The run folder's name.
        words: Words that leave nothing to the machine which the run comes to.
        resources: What it takes.
        measure: How far it is.
    """

    out: str
    name: str
    words: tuple[str, ...]
    resources: Resources
    measure: Measure


@dataclass(frozen=True)
class SweepTarget:
    """A command whose runs can be swept.

    Attributes:
        program: What it is to hydra.
        module: `python -m <module> train` does one run.
        presets: The words that a sweep's runs have besides those of the command line.
        describe: Checks a configuration and describes its run; its second argument tells whether the run will be on
            this machine for sure.
    """

    program: Program
    module: str
    presets: Callable[[Sequence[str]], list[str]]
    describe: Callable[[DictConfig, bool], Description]

    @property
    def command(self) -> tuple[str, ...]:
        """The words after the interpreter's name."""
        return ("-m", self.module, "train")


@dataclass(frozen=True)
class RunPlan:
    """One run of a sweep; `label` is what a reader tells it by, `command` the words after the interpreter's name."""

    label: str
    folder: Path
    command: tuple[str, ...]
    resources: Resources
    measure: Measure


def make_plans(target: SweepTarget, words: Sequence[str], options: SweepOptions) -> list[RunPlan]:
    """Compose and check every run.

    Raises:
        SweepError: a run whose configuration makes no sense (named), or two that would write one folder.
    """
    plans: list[RunPlan] = []
    taken: dict[Path, RunPlan] = {}
    with composing(target.program):
        combinations = expand(target.program, [*target.presets(words), *words])
        for number, combination in enumerate(combinations, 1):
            try:
                config = compose(target.program, combination.words)
                described = target.describe(config, options.address is None)
            except ValueError as error:
                if len(combinations) == 1 or type(error).__module__.split(".")[0] not in PACKAGES:
                    raise
                which = f"run {number} of {len(combinations)} ({combination.label})"
                raise SweepError(f"{which}: {error}") from error
            folder = Path(described.out).absolute() / described.name
            command = (*target.command, *combination.words, *described.words, f"folder={folder}")
            plan = RunPlan(combination.label, folder, command, _asked(described.resources, options), described.measure)
            if folder in taken:
                raise SweepError(
                    f"'{taken[folder].label}' and '{plan.label}' are the same run, and would write one folder: {folder}"
                )
            taken[folder] = plan
            plans.append(plan)
    return plans


def refuse_held(plans: Sequence[RunPlan]) -> None:
    """Raise SweepError where a run is being written by a process that lives."""
    for plan in plans:
        holder = held_by(plan.folder)
        if holder is not None:
            raise SweepError(f"{plan.label}: {plan.folder} is being written by {holder}; wait for it, or end it first")


def settled(settings: S, validate: Callable[[S], None], resolve: Callable[[S], S], here: bool) -> S:
    """A run's settings, checked, and with nothing left to the machine that the run comes to.

    Args:
        settings: With `resume`, `folder`, `threads` and `device`.
        validate: Raises where they make no sense.
        resolve: What the command does with settings on the machine it runs on.
        here: Whether the run will be on this machine for sure; a GPU that is asked for must then be here.

    Raises:
        SettingsError: a key that names one run's folder, a numbered GPU, or what `validate` and `resolve` raise.
    """
    for key, value in (("resume", settings.resume), ("folder", settings.folder)):
        if value is not None:
            raise SettingsError(
                f"{key}={value}: names one run; a sweep finds its runs' folders, and goes on with them, itself"
            )
    settings = replace(settings, threads=1 if settings.threads is None else settings.threads)
    validate(settings)
    device = str(settings.device)
    if device.startswith("cuda:"):
        raise SettingsError(f"device={device}: in a sweep Ray gives every run its GPU; choices: cuda, cpu, auto")
    if here or device != "cuda":
        return resolve(settings)
    return replace(resolve(replace(settings, device="cpu")), device=device)


def _asked(resources: Resources, options: SweepOptions) -> Resources:
    """What a run takes by the sweep's own keys, where they are set."""
    because = resources.because
    if options.cpus is not None:
        resources, because = replace(resources, cpus=options.cpus), f"sweep.cpus={options.cpus:g}"
    if options.gpus is not None:
        resources = replace(resources, gpus=options.gpus)
        because = f"{because}, sweep.gpus={options.gpus:g}"
    return replace(resources, because=because)
