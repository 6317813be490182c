"""What `bench chaos` strikes, and how it's seen in health.jsonl that the run has got over it."""

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
class Blow:
    """What was done.

    Attributes:
        what: For the table.
        at: Seconds since the epoch, as health.jsonl's `time`.
        processes: Those that ended or stopped with it.
    """

    what: str
    at: float
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Victim:
    """One kind of trouble. Others may be added to `VICTIMS`.

    Attributes:
        name: A word for it.
        attack: Does it, and says what it did; None if there is nothing to strike now.
        recovered: When the run had got over a blow, by the rows of health.jsonl; None if it hasn't yet.
    """

    name: str
    attack: Callable[[LocalNodes, random.Random], Blow | None]
    recovered: Callable[[Blow, Sequence[dict[str, Any]]], float | None]


def workers_recovered(blow: Blow, rows: Sequence[dict[str, Any]]) -> float | None:
    """When every task of every struck worker had delivered a chunk again."""
    at_work = {row["pid"] for row in rows if row.get("event") == "worker joined"}  # the others were still starting
    ends = [_worker_recovered(pid, rows) for pid in blow.processes if pid in at_work]
    known = [end for end in ends if end is not None]
    return max(known, default=blow.at) if len(known) == len(ends) else learners_recovered(blow, rows)


def learners_recovered(blow: Blow, rows: Sequence[dict[str, Any]]) -> float | None:
    """When a run that a new group of learners goes on with, and new workers, had written its next row of health."""
    begun = _first(
        i for i, row in enumerate(rows) if row.get("event") == "learners restarted" and row["time"] > blow.at
    )
    return None if begun is None else _first(row["time"] for row in rows[begun:] if "updates_per_s" in row)


def worker_joined(blow: Blow, rows: Sequence[dict[str, Any]]) -> float | None:
    """When the first worker after the blow was ready, or when no worker waited for room."""
    after = [row for row in rows if row["time"] > blow.at]
    served = (
        row["time"]
        for row in after
        if row.get("event") == "worker joined"
        or ("rollout_workers" in row and all(worker["state"] != "starting" for worker in row["rollout_workers"]))
    )
    return _first(served)


def _worker_recovered(pid: int, rows: Sequence[dict[str, Any]]) -> float | None:
    """A worker's tasks go to others when it's late or lost, whichever is noticed first."""
    noticed = ("worker late", "worker replaced", "worker left")
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
) -> Callable[[LocalNodes, random.Random], Blow | None]:
    def attack(nodes: LocalNodes, rng: random.Random) -> Blow | None:
        workers = nodes.all_workers(title)
        if not workers:
            return None
        pid = rng.choice(workers)
        at = time.time()
        return Blow(f"{what} ({pid})", at, (pid,)) if strike(pid, number) else None

    return attack


def _remove_node(nodes: LocalNodes, rng: random.Random) -> Blow | None:
    others = nodes.nodes[1:]
    if not others:
        return None
    node = rng.choice(others)
    workers = tuple(nodes.workers(node))
    at = time.time()
    nodes.remove(node)
    return Blow(f"node lost, with {len(workers)} workers", at, workers)


def _add_node(nodes: LocalNodes, rng: random.Random) -> Blow | None:
    if len(nodes.nodes) >= nodes.wanted:
        return None
    at = time.time()
    nodes.add()
    return Blow("node added", at)


VICTIMS: list[Victim] = [
    Victim("worker killed", _signal(signal.SIGKILL, "worker killed"), workers_recovered),
    Victim("worker hung", _signal(signal.SIGSTOP, "worker stopped"), workers_recovered),
    Victim("node lost", _remove_node, workers_recovered),
    Victim("node added", _add_node, worker_joined),
]
"""What may be struck; a blow is drawn from those that find something to strike."""
LEARNER = Victim("learner killed", _signal(signal.SIGKILL, "learner killed", "ray::LearnerActor"), learners_recovered)
"""Where there are several; the run goes on from its newest checkpoint."""
