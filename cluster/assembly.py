"""Choosing a collector and a trainer by configuration."""

from __future__ import annotations

from cluster.collect import Collector, CollectSpec, InlineCollector
from cluster.config import ClusterConfig, count_workers
from cluster.driver import Parts, Trainer


def make_collector(spec: CollectSpec, config: ClusterConfig) -> Collector:
    """The collector that the configuration asks for; `start` it, and `close` it in the end.

    Raises:
        ClusterError: an option makes no sense, or Ray can't be started or joined.
    """
    config.validate()
    if config.kind == "inline":
        return InlineCollector(spec)
    from cluster.raysession import RaySession

    session = RaySession(config, count_workers(config, len(spec.suite.tasks)))
    from cluster.rayworkers import RayCollector  # imports Ray, which must not happen before the session is set up

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
