"""Whether a cluster has the CPUs and GPUs that the runs take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mtrl_surgery.sweeps.errors import SweepError, SweepFailure
from mtrl_surgery.sweeps.plan import Resources, RunPlan


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
    """Refuse runs that the cluster could never do.

    Raises:
        SweepError: names the run, the setting, what it takes and what there is.
    """
    for plan in plans:
        resources = plan.resources
        if not any(node.cpus >= resources.cpus and node.gpus >= resources.gpus for node in nodes):
            raise SweepError(
                f"{resources.because}: a run takes {amount(resources.cpus, resources.gpus)} of one node, "
                f"and none has that: {'; '.join(map(str, nodes)) or 'the cluster has no node'} (run: {plan.label})"
            )
        if not fits([], resources, nodes):
            whole = amount(resources.cpus + resources.apart_cpus, resources.gpus + resources.apart_gpus)
            raise SweepError(
                f"{resources.because}: a run and its workers take {whole}, and the whole cluster has fewer: "
                f"{'; '.join(map(str, nodes))} (run: {plan.label})"
            )


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
