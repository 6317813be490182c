"""Choosing a collector and a trainer by configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.config import ClusterConfig, count_workers
from cluster.training.asynchronous import AsyncTrainer
from cluster.training.collect import Collector, CollectSpec
from cluster.training.driver import Trainer, TrainerParts
from cluster.training.inline import InlineCollector
from cluster.training.synchronous import SyncTrainer

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
    # Ray must not be imported before the session is set up.
    from cluster.workers.collector import RayCollector

    return RayCollector(spec, config, session)


def make_trainer(parts: TrainerParts, config: ClusterConfig) -> Trainer:
    """The trainer of the configured mode."""
    return SyncTrainer(parts) if config.mode == "sync" else AsyncTrainer(parts, config.max_lead)
