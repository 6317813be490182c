"""Options of collectors, driver and learners (imports neither Ray nor torch: the help of the command line reads it)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

KINDS = ("inline", "local", "ray")
MODES = ("sync", "async")


class ClusterError(ValueError):
    """A bad option, or a cluster that can't do what was asked; the message says what to change."""


class ClusterFailure(ClusterError):
    """What was asked for is fine, but the cluster broke: the run failed (exit code 1)."""

    run_failed = True


@dataclass
class ClusterConfig:
    """Where experience is collected, and how strictly.

    A chunk is `chunk_steps` vector steps of every copy of every task. In `sync` mode the chunk length is part of the
    schedule, so it changes a run's result; the kind, the number of workers and their deaths never do.
    """

    kind: Annotated[str, "inline (this process) | local (Ray on this machine) | ray (join a running cluster)"] = "local"
    address: Annotated[str | None, "kind=ray: host:port of the head node, or auto"] = None
    workers: Annotated[
        int | None, "null: one a core but the learner's (kind=ray: one a free CPU), at most one a task"
    ] = None
    chunk_steps: Annotated[int, "vector steps of a chunk"] = 100
    mode: Annotated[str, "sync: a pure function of config and seed | async: newest weights, counts only"] = "sync"
    max_lead: Annotated[int, "async: chunks that a task may be ahead of the learner's updates"] = 2
    max_restarts: Annotated[
        int, "times in a row that a task's chunk may be lost with its worker before the run gives up"
    ] = 20
    hang_timeout: Annotated[
        float | None, "seconds of silence that end a worker; null: 20 mean chunks' time, at least 60"
    ] = None
    start_timeout: Annotated[float, "seconds that the workers may take to start and to build their environments"] = (
        600.0
    )
    object_store_mb: Annotated[int, "kind=local: memory for chunks and weights on their way"] = 512

    def validate(self) -> None:
        """Check every option.

        Raises:
            ClusterError: an option has a value that makes no sense; the message names it and what is allowed.
        """
        for key, choices in (("kind", KINDS), ("mode", MODES)):
            if getattr(self, key) not in choices:
                raise ClusterError(f"cluster.{key}={getattr(self, key)!r} is unknown; choices: {', '.join(choices)}")
        for key in ("chunk_steps", "max_lead"):
            if getattr(self, key) < 1:
                raise ClusterError(f"cluster.{key}={getattr(self, key)} must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise ClusterError(f"cluster.workers={self.workers} must be at least 1, or null for one a core")
        if self.max_restarts < 0:
            raise ClusterError(f"cluster.max_restarts={self.max_restarts} must not be negative")
        for key in ("start_timeout", "hang_timeout"):
            seconds = getattr(self, key)
            if seconds is not None and not seconds > 0:
                raise ClusterError(f"cluster.{key}={seconds} must be positive (seconds)")
        if self.object_store_mb < 80:
            raise ClusterError(f"cluster.object_store_mb={self.object_store_mb} must be at least 80 (Ray's minimum)")
        if self.kind == "ray" and not self.address:
            raise ClusterError("cluster.kind=ray needs cluster.address=HOST:PORT (or auto on a node of the cluster)")
        if self.kind != "ray" and self.address is not None:
            raise ClusterError(
                f"cluster.address={self.address!r} is only for cluster.kind=ray, and cluster.kind={self.kind}"
            )


def count_workers(config: ClusterConfig, tasks: int, cores: int | None = None) -> int:
    """The most rollout workers of a run: what is asked for, at most one a task, and one for kind=inline.

    With kind=ray and cluster.workers=null there are as many as the cluster has CPUs free, one a task at most.

    Args:
        config: the options.
        tasks: number of tasks K.
        cores: processor cores to plan for on this machine; None: those this process may use.
    """
    if config.kind == "inline":
        return 1
    if config.workers is not None:
        return min(config.workers, tasks)
    if config.kind == "ray":
        return tasks
    available = cores if cores is not None else len(os.sched_getaffinity(0))
    return min(max(1, available - 1), tasks)


class LearnerLost(RuntimeError):
    """A learner died or hangs, and its group with it: the run can go on from its newest checkpoint."""

    run_failed = True
    step = 0
    """Vector steps that the run had done."""
    updates = 0
    """The same of updates."""


@dataclass
class LearnerConfig:
    """How many processes learn, and what they may cost.

    The number is part of what decides a run: every learner has random streams of its own. N learners with the same
    transitions and noise move the parameters as one does, to rounding.
    """

    num: Annotated[int, "learners; each takes its share of every task's batch. 1: the driver itself"] = 1
    cpus: Annotated[
        float | None, "CPUs of the cluster that a learner holds; null: none on this machine, else its threads"
    ] = None
    gpus: Annotated[float | None, "the same of GPUs; null: 1 with device=cuda, else none"] = None
    timeout: Annotated[float, "seconds without an answer after which the learners are taken for dead"] = 300.0
    max_restarts: Annotated[int, "times that the run goes on from its newest checkpoint after a learner died"] = 3

    def validate(self) -> None:
        """Check every option.

        Raises:
            ClusterError: an option has a value that makes no sense; the message names it and what is allowed.
        """
        if self.num < 1:
            raise ClusterError(f"learner.num={self.num} must be at least 1")
        for key in ("cpus", "gpus"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise ClusterError(f"learner.{key}={value} must not be negative, or null")
        if not self.timeout > 0:
            raise ClusterError(f"learner.timeout={self.timeout} must be positive (seconds)")
        if self.max_restarts < 0:
            raise ClusterError(f"learner.max_restarts={self.max_restarts} must not be negative")
