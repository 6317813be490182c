"""Faults that `chaos` injects, and when health.jsonl says that the run has recovered from one."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.chaos.nodes import LocalNodes, strike

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A fault that was done.

    Attributes:
        what: For the table.
        at: Seconds since the epoch, as health.jsonl's `time`.
        processes: Those that ended or stopped with it.
    """

    what: str
    at: float
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class FaultTarget:
    """One kind of fault, and the parts that it hits. Others may be added to `TARGETS`.

    Attributes:
        name: A word for it.
        inject: Does it, and returns it; None if there is no target now.
        recovered: When the run had recovered from a fault, by the rows of health.jsonl; None if it has not yet.
    """

    name: str
    inject: Callable[[LocalNodes, random.Random], Fault | None]
    recovered: Callable[[Fault, Sequence[dict[str, Any]]], float | None]


def workers_recovered(fault: Fault, rows: Sequence[dict[str, Any]]) -> float | None:
    """When every task of every hit worker had delivered a chunk again."""
    at_work = {row["pid"] for row in rows if row.get("event") == "worker joined"}  # the others were still starting
    ends = [_worker_recovered(pid, rows) for pid in fault.processes if pid in at_work]
    known = [end for end in ends if end is not None]
    return max(known, default=fault.at) if len(known) == len(ends) else learners_recovered(fault, rows)


def learners_recovered(fault: Fault, rows: Sequence[dict[str, Any]]) -> float | None:
    """When a run that a new group of learners goes on with, and new workers, had written its next row of health."""
    begun = _first(
        i for i, row in enumerate(rows) if row.get("event") == "learners restarted" and row["time"] > fault.at
    )
    return None if begun is None else _first(row["time"] for row in rows[begun:] if "updates_per_s" in row)


def worker_joined(fault: Fault, rows: Sequence[dict[str, Any]]) -> float | None:
    """When the first worker after the fault was ready, or when no worker waited for room."""
    after = [row for row in rows if row["time"] > fault.at]
    served = (
        row["time"]
        for row in after
        if row.get("event") == "worker joined"
        or ("rollout_workers" in row and all(worker["state"] != "starting" for worker in row["rollout_workers"]))
    )
    return _first(served)


def _worker_recovered(pid: int, rows: Sequence[dict[str, Any]]) -> float | None:
    """A worker's tasks go to others when it's lost or its node is drained, whichever is noticed first."""
    noticed = ("worker replaced", "worker left")
    found = _first(i for i, row in enumerate(rows) if row.get("pid") == pid and row.get("event") in noticed)
    if found is None:
        return None
    lost = rows[found]
    if not lost["tasks"]:
        return float(lost["time"])
    after = rows[found:]
    return _first(row["time"] for row in after if row.get("event") == "recovered" and row["worker"] == lost["worker"])


def _first(values: Iterable[T]) -> T | None:
    return next(iter(values), None)


def _signal(
    number: signal.Signals, what: str, title: str = "ray::RolloutWorker"
) -> Callable[[LocalNodes, random.Random], Fault | None]:
    def inject(nodes: LocalNodes, rng: random.Random) -> Fault | None:
        workers = nodes.all_workers(title)
        if not workers:
            return None
        pid = rng.choice(workers)
        at = time.time()
        return Fault(f"{what} ({pid})", at, (pid,)) if strike(pid, number) else None

    return inject


def _remove_node(nodes: LocalNodes, rng: random.Random) -> Fault | None:
    others = nodes.nodes[1:]
    if not others:
        return None
    node = rng.choice(others)
    workers = tuple(nodes.workers(node))
    at = time.time()
    nodes.remove(node)
    return Fault(f"node lost, with {len(workers)} workers", at, workers)


def _add_node(nodes: LocalNodes, rng: random.Random) -> Fault | None:
    if len(nodes.nodes) >= nodes.wanted:
        return None
    at = time.time()
    nodes.add()
    return Fault("node added", at)


TARGETS: list[FaultTarget] = [
    FaultTarget("worker killed", _signal(signal.SIGKILL, "worker killed"), workers_recovered),
    FaultTarget("worker hung", _signal(signal.SIGSTOP, "worker stopped"), workers_recovered),
    FaultTarget("node lost", _remove_node, workers_recovered),
    FaultTarget("node added", _add_node, worker_joined),
]
"""A fault is drawn from those that have a target now."""
LEARNER = FaultTarget(
    "learner killed", _signal(signal.SIGKILL, "learner killed", "ray::LearnerActor"), learners_recovered
)
"""Where there are several; the run goes on from its newest checkpoint."""
