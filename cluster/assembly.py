"""Choosing a collector and a trainer by configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.collect import Collector, CollectSpec
from cluster.config import ClusterConfig, ClusterError, count_workers
from cluster.driver import Parts, Trainer
from cluster.inline import InlineCollector
from cluster.learner_config import LearnerConfig
from mtrl_surgery.jacobian.sharding import Whole

if TYPE_CHECKING:
    from cluster.contracts import Learner
    from cluster.learner_actor import LearnerFactory
    from cluster.raysession import RaySession


def make_session(config: ClusterConfig, tasks: int) -> RaySession | None:
    """The connection to Ray that learners and collector share; None for kind=inline.

    Raises:
        ClusterError: an option makes no sense, or Ray can't be started or joined.
    """
    config.validate()
    if config.kind == "inline":
        return None
    from cluster.raysession import RaySession

    return RaySession(config, count_workers(config, tasks))


def make_learners(
    factory: LearnerFactory, config: LearnerConfig, session: RaySession | None, device: str, threads: int
) -> Learner:
    """The learner, in this process, or several of them as Ray actors.

    Raises:
        ClusterError: several are asked for without Ray, or find no room.
    """
    config.validate()
    if config.num == 1:
        return factory(Whole())
    if session is None:
        raise ClusterError(f"learner.num={config.num} needs Ray: choose cluster=local or cluster=ray, not inline")
    from cluster.learners import LearnerGroup

    return LearnerGroup(factory, config, session, device, threads)


def make_collector(spec: CollectSpec, config: ClusterConfig, session: RaySession | None = None) -> Collector:
    """The collector that the configuration asks for; `start` it, and `close` it in the end.

    Args:
        spec: What the workers must know.
        config: The options.
        session: The connection to Ray, which `close` closes; made anew when not given.

    Raises:
        ClusterError: an option makes no sense, or Ray can't be started or joined.
    """
    session = session or make_session(config, len(spec.suite.tasks))
    if session is None:
        return InlineCollector(spec)
    from cluster.raycollector import RayCollector  # imports Ray, which must not happen before the session is set up

    return RayCollector(spec, config, session)


def make_trainer(parts: Parts, config: ClusterConfig) -> Trainer:
    """The trainer of the configured mode.

    Raises:
        ClusterError: an option makes no sense.
    """
    config.validate()
    if config.mode == "sync":
        from cluster.synchronous import SyncTrainer

        return SyncTrainer(parts)
    from cluster.asynchronous import AsyncTrainer

    return AsyncTrainer(parts, config.max_lead)
