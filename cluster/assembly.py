"""Choosing a collector and a trainer by configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.config import ClusterConfig, count_workers
from cluster.training.collect import Collector, CollectSpec
from cluster.training.driver import Parts, Trainer
from cluster.training.inline import InlineCollector

if TYPE_CHECKING:
    from cluster.workers.session import RaySession


def make_session(config: ClusterConfig, tasks: int) -> RaySession | None:
    """The connection to Ray that several learners and the collector share; None for kind=inline.

    Raises:
        ClusterError: an option makes no sense, or Ray can't be started or joined.
    """
    config.validate()
    if config.kind == "inline":
        return None
    from cluster.workers.session import RaySession

    return RaySession(config, count_workers(config, tasks))


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
    from cluster.workers.collector import (
        RayCollector,  # imports Ray, which must not happen before the session is set up
    )

    return RayCollector(spec, config, session)


def make_trainer(parts: Parts, config: ClusterConfig) -> Trainer:
    """The trainer of the configured mode.

    Raises:
        ClusterError: an option makes no sense.
    """
    config.validate()
    if config.mode == "sync":
        from cluster.training.synchronous import SyncTrainer

        return SyncTrainer(parts)
    from cluster.training.asynchronous import AsyncTrainer

    return AsyncTrainer(parts, config.max_lead)
