"""The runs of a sweep before any work: its options, where each run is written, what it takes, and whether that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import DictConfig

from mtrl_surgery import PACKAGES
from mtrl_surgery.cli.arguments import parse
from mtrl_surgery.cli.composition import Program, compose, composing, expand
from mtrl_surgery.cli.schema import SettingsError, check_least
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.sweeps import SweepError, SweepFailure
from mtrl_surgery.sweeps.folder import Measure

PREFIX = "sweep."


@dataclass
class SweepOptions:
    """How the runs of a sweep are done."""

    cpus: Annotated[float | None, "CPUs that a run holds; null: what its own settings take"] = None
    gpus: Annotated[float | None, "the same of GPUs; a part of one lets several runs share it"] = None
    parallel: Annotated[int | None, "runs at once; null: as many as there is room for"] = None
    retries: Annotated[
        int, "times in a row that a run may be lost without a new checkpoint before it counts as failed"
    ] = 3
    max_failures: Annotated[int | None, "failed runs after which no other is started; null: all are tried"] = None
    address: Annotated[
        str | None, "null: a Ray of its own on this machine; HOST:PORT, or auto on a node: join a cluster"
    ] = None
    wait_for_nodes: Annotated[bool, "start although no node has room for a run yet: an autoscaler will bring one"] = (
        False
    )
    folder: Annotated[str | None, PATH, "where the sweep keeps its table; null: <out>/.sweeps/<name>"] = None
    report: Annotated[bool, "end with a report on the runs"] = True

    def validate(self) -> None:
        """Raise SettingsError for a value that makes no sense; it names the key and what is allowed."""
        least = {"cpus": 0, "gpus": 0, "parallel": 1, "retries": 0, "max_failures": 1}
        check_least({f"{PREFIX}{key}": (getattr(self, key), one) for key, one in least.items()})


@dataclass
class _Words:
    sweep: SweepOptions = field(default_factory=SweepOptions)


def split(words: Sequence[str]) -> tuple[SweepOptions, list[str]]:
    """The sweep's own options, checked, and the words of its runs."""
    options = parse([word for word in words if word.startswith(PREFIX)], _Words).sweep
    options.validate()
    return options, [word for word in words if not word.startswith(PREFIX)]


S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class Resources:
    """What a run takes of a cluster."""

    cpus: float  # of the node that its process runs on
    gpus: float  # of the same node
    apart_cpus: float = 0.0  # that the run itself takes anywhere in the cluster, where it joins that (`cluster=ray`)
    apart_gpus: float = 0.0
    because: str = ""  # the settings that it comes from

    @property
    def joins(self) -> bool:
        """Whether the run joins the sweep's cluster with workers of its own."""
        return self.apart_cpus > 0 or self.apart_gpus > 0


@dataclass(frozen=True)
class Description:
    """What a command tells of a run that was composed for it."""

    folder: Path
    words: tuple[str, ...]  # that leave nothing to the machine which the run comes to
    resources: Resources
    measure: Measure


@dataclass(frozen=True)
class SweepTarget:
    """A command whose runs can be swept: `python -m <module> train` does one.

    Attributes:
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
    plans: dict[Path, RunPlan] = {}
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
            folder, label = described.folder.absolute(), combination.label
            if folder in plans:
                raise SweepError(
                    f"'{plans[folder].label}' and '{label}' are the same run, and would write one folder: {folder}"
                )
            command = (*target.command, *combination.words, *described.words, f"folder={folder}")
            plans[folder] = RunPlan(label, folder, command, _asked(described.resources, options), described.measure)
    return list(plans.values())


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
        SettingsError: a key that names one run's folder, or a numbered GPU.
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
    if options.cpus is not None:
        resources = replace(resources, cpus=options.cpus, because=f"sweep.cpus={options.cpus:g}")
    if options.gpus is not None:
        because = f"{resources.because}, sweep.gpus={options.gpus:g}"
        resources = replace(resources, gpus=options.gpus, because=because)
    return resources


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has for Ray's tasks."""

    name: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        """For messages."""
        return f"{self.name} has {amount(self.cpus, self.gpus)}"


def this_machine() -> Node:
    """What a Ray of its own on this machine will have."""
    import torch

    from mtrl_surgery.devices import count_cores

    return Node("this machine", count_cores(), torch.cuda.device_count())


def cluster_nodes() -> list[Node]:
    """The nodes of the cluster that this process has joined.

    Raises:
        SweepFailure: the head node does not answer.
    """
    import ray as ray_module
    from ray.exceptions import RayError

    ray: Any = ray_module  # `nodes` has no types
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
    except (RayError, RuntimeError) as error:
        raise SweepFailure(f"the cluster's head node doesn't answer: {error}") from error
    return [
        Node(node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in nodes
    ]


def check_capacity(plans: Iterable[RunPlan], nodes: Sequence[Node]) -> None:
    """Raise SweepError for a run that the cluster could never do; it names the run, what it takes and what there is."""
    for plan in plans:
        takes, there = plan.resources, "; ".join(map(str, nodes)) or "the cluster has no node"
        wrong = ""
        if not any(node.cpus >= takes.cpus and node.gpus >= takes.gpus for node in nodes):
            wrong = f"a run takes {amount(takes.cpus, takes.gpus)} of one node, and none has that"
        elif not fits([], takes, nodes):
            whole = amount(takes.cpus + takes.apart_cpus, takes.gpus + takes.apart_gpus)
            wrong = f"a run and its workers take {whole}, and the whole cluster has fewer"
        if wrong:
            raise SweepError(f"{takes.because}: {wrong}: {there} (run: {plan.label})")


def fits(running: Iterable[Resources], resources: Resources, nodes: Sequence[Node]) -> bool:
    """Whether another run finds room beside those that run, for its process and for the workers that it will start.

    A run that waited for workers while others wait for theirs would keep them all waiting, so what a run takes later is
    counted from its start.
    """
    cpus = resources.cpus + resources.apart_cpus + sum(other.cpus + other.apart_cpus for other in running)
    gpus = resources.gpus + resources.apart_gpus + sum(other.gpus + other.apart_gpus for other in running)
    return cpus <= sum(node.cpus for node in nodes) and gpus <= sum(node.gpus for node in nodes)


def amount(cpus: float, gpus: float) -> str:
    """Processors in words: `1 CPU and 0.5 GPUs`."""
    some = [f"{number:g} {name}{'s' * (number != 1)}" for number, name in ((cpus, "CPU"), (gpus, "GPU"))]
    return " and ".join(some if gpus else some[:1])
