"""One of several learners: a process with its share of the batch, its slice of the parameters, and its replay."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cluster.training.contracts import Learner
from cluster.workers.rendezvous import Rendezvous, join, open_store
from mtrl_surgery.jacobian.sharding import Sharded, Whole


class ShardedLearner(Learner, Protocol):
    """A learner that knows which part of its state is not the others'."""

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Keys of `state_dict` that each learner has a value of its own for; the others are alike."""

    @property
    def seen(self) -> int:
        """Transitions that every task has received in all learners together."""


LearnerFactory = Callable[[Whole], ShardedLearner]
"""Builds a learner; it's pickled to every learner's process and called with what connects it to the others."""


class LearnerActor:
    """The actor. The driver makes the same calls of all; answers that are alike come from the first."""

    def __init__(self, rank: int, size: int, threads: int) -> None:
        """Cheap; `build` does the work, so that its errors are told from a death."""
        torch.set_num_threads(threads)
        self._rank, self._size = rank, size
        self._store: TCPStore | None = None
        self._learner: ShardedLearner | None = None

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def open(self, host: str, timeout: float) -> Rendezvous:
        """Opens the store; the first learner's."""
        self._store, rendezvous = open_store(host, self._size, timeout)
        return rendezvous

    def host(self) -> str:
        """The address of this actor's node."""
        import ray

        return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    def build(self, rendezvous: Rendezvous, host: str, backend: str, timeout: float, factory: LearnerFactory) -> None:
        """Joins the others and builds the learner."""
        group = join(rendezvous, host, self._rank, self._size, backend, timeout, self._store)
        self._learner = factory(Sharded(group))

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a method of the learner."""
        return getattr(self._built, name)(*arguments)

    def seen(self) -> int:
        """See `ShardedLearner`."""
        return self._built.seen

    def capacity(self) -> int:
        """Transitions a task that this learner keeps."""
        return self._built.replay.capacity

    def state(self) -> dict[str, Any]:
        """Everything from the first learner, from the others what is their own."""
        whole = self._built.state_dict()
        return whole if self._rank == 0 else {key: whole[key] for key in self._built.own_keys}

    def segment(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """This learner's transitions, by its own count."""
        return self._built.replay.segment(start, stop)

    def load_segment(self, start: int, stop: int, arrays: dict[str, np.ndarray]) -> None:
        """Puts them back."""
        self._built.replay.load_segment(start, stop, arrays)

    @property
    def _built(self) -> ShardedLearner:
        assert self._learner is not None, "build comes first"
        return self._learner
