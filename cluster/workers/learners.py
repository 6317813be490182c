"""Several learners as one: Ray actors in a process group, behind the `Learner` that the driver knows.

The driver makes every call of all of them. What they do together they exchange among themselves; the driver sends
chunks, and fetches weights, metrics and state from the first. A group with a dead member can't be mended: it is
`LearnerLost`, and the run goes on from its newest checkpoint with a new group.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from agents.replay import Share
from cluster.config import ClusterFailure, LearnerConfig, LearnerLost
from cluster.workers.learner_actor import LearnerActor, LearnerFactory
from cluster.workers.session import RaySession
from envs.rollout import Chunk

_LOOK = 1.0  # seconds between two looks at whether Ray lives
_GRACE = 10.0  # seconds in which a death shows after the others complain of a closed connection


class LearnerGroup:
    """See `cluster.training.contracts.Learner`; every call may raise `LearnerLost`."""

    def __init__(
        self, factory: LearnerFactory, config: LearnerConfig, session: RaySession, device: str, threads: int
    ) -> None:
        """Starts the processes, and has each build its learner.

        Args:
            factory: Builds one.
            config: How many, and with what.
            session: The connection to Ray; the caller's to close.
            device: `cuda` gives each learner a GPU and joins them by NCCL; `cpu` joins them by gloo.
            threads: CPU threads of each.

        Raises:
            ClusterFailure: the cluster has no room for them.
            LearnerLost: one died while it started.
        """
        self._config, self._session = config, session
        self.replay = GroupReplay(self)
        cuda = device.startswith("cuda")
        here = session.on_this_machine
        cpus = config.cpus if config.cpus is not None else 0.0 if here else float(threads)
        gpus = config.gpus if config.gpus is not None else float(cuda)
        self._place = _reserve(config, {"CPU": cpus, "GPU": gpus})
        actor = ray.remote(max_restarts=0, max_task_retries=0)(LearnerActor)
        environment = session.worker_environment(threads)
        self.actors: list[Any] = [
            actor.options(
                num_cpus=cpus,
                num_gpus=gpus,
                runtime_env=environment,
                scheduling_strategy=None
                if self._place is None
                else PlacementGroupSchedulingStrategy(self._place, rank),
            ).remote(rank, config.num, threads)
            for rank in range(config.num)
        ]
        self._adding: list[Any] = []
        try:
            self._build(factory, "nccl" if cuda else "gloo")
        except BaseException:
            self.close()
            raise

    def add(self, chunk: Chunk) -> None:
        """See `Learner`; one copy in the object store serves the learners of a node."""
        ref = ray.put(chunk)
        self._settle()  # no more than two chunks are on their way
        self._adding = [one.call.remote("add", ref) for one in self.actors]

    def update(self, count: int) -> None:
        """See `Learner`."""
        self._all("call", "update", count)

    def policy_weights(self) -> np.ndarray:
        """See `Learner`."""
        return np.array(self._first("call", "policy_weights"))

    def metrics(self) -> list[dict[str, Any]]:
        """See `Learner`."""
        rows: list[dict[str, Any]] = self._all("call", "metrics")[0]
        return rows

    def conflict_maps(self) -> list[dict[str, Any]]:
        """See `Learner`."""
        rows: list[dict[str, Any]] = self._all("call", "conflict_maps")[0]
        return rows

    def state_dict(self) -> dict[str, Any]:
        """A single learner's, of the first, and under `others` what the others have of their own."""
        whole, *others = self._all("state")
        return {**whole, "others": others}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value, of as many learners."""
        self._settle()
        whole = {key: value for key, value in state.items() if key != "others"}
        states = [whole, *({**whole, **own} for own in state["others"])]
        self._answers([one.call.remote("load_state_dict", own) for one, own in zip(self.actors, states, strict=True)])

    def pids(self) -> list[int]:
        """Process ids, for whoever wants to see one die."""
        return [int(pid) for pid in self._all("pid")]

    def close(self) -> None:
        """End the processes; with Ray they have ended."""
        if not self._session.lost:
            for one in self.actors:
                ray.kill(one)
            if self._place is not None:
                remove_placement_group(self._place)
        self.actors, self._place = [], None

    def _build(self, factory: LearnerFactory, backend: str) -> None:
        timeout = self._config.timeout
        hosts = self._all("host")
        rendezvous = self._first("open", hosts[0], timeout)
        self._answers(
            [
                one.build.remote(rendezvous, host, backend, timeout, factory)
                for one, host in zip(self.actors, hosts, strict=True)
            ]
        )

    def _settle(self) -> None:
        """Hear of the last chunk before anything is built on it: a learner may have refused its share."""
        adding, self._adding = self._adding, []
        self._answers(adding)

    def _first(self, call: str, *arguments: Any) -> Any:
        self._settle()
        return self._answers([getattr(self.actors[0], call).remote(*arguments)])[0]

    def _all(self, call: str, *arguments: Any) -> list[Any]:
        self._settle()
        return self._answers([getattr(one, call).remote(*arguments) for one in self.actors])

    def _answers(self, refs: list[Any]) -> list[Any]:
        """The answers to a call of all.

        Raises:
            LearnerLost: a learner died, or there was no answer in time; the others are ended.
            ClusterFailure: a learner raised something that nobody knows.
            ArithmeticError, ValueError: what all of them raised: a NaN, a bad option.
        """
        waiting, deadline = list(refs), time.monotonic() + self._config.timeout
        while waiting:
            self._session.check()
            ready, waiting = ray.wait(waiting, timeout=min(_LOOK, max(0.0, deadline - time.monotonic())))
            if not ready:
                if time.monotonic() < deadline:
                    continue
                self._lose(f"{len(waiting)} of {len(refs)} learners gave no answer for {self._config.timeout:g} s")
            try:
                ray.get(ready[0])
            except RayActorError as error:
                self._session.check()
                self._lose(f"learner {refs.index(ready[0])} died: {' '.join(str(error).split())[:300]}")
            except RayTaskError as error:
                self._explain(error, waiting)
        answers: list[Any] = ray.get(refs)
        return answers

    def _explain(self, error: RayTaskError, waiting: list[Any]) -> None:
        """Tell a learner's own error from what it says of a neighbour that died."""
        if isinstance(error.cause, ArithmeticError | ValueError):
            raise error.cause from None
        deadline = time.monotonic() + _GRACE
        while waiting and time.monotonic() < deadline:
            ready, waiting = ray.wait(waiting, timeout=0.5)
            for ref in ready:
                try:
                    ray.get(ref)
                except RayActorError:
                    self._lose(f"a learner died, and its neighbours say: {error.cause}")
                except RayError:
                    continue
        if any(_dead(one) for one in self.actors):
            self._lose(f"a learner died, and its neighbours say: {error.cause}")
        raise ClusterFailure(f"a learner failed: {type(error.cause).__name__}: {error.cause}") from error

    def _lose(self, reason: str) -> None:
        self.close()
        raise LearnerLost(reason)


class GroupReplay:
    """The learners' replays as one: transition number n of a task is learner (n modulo N)'s."""

    def __init__(self, group: LearnerGroup) -> None:
        """Of this group."""
        self._group = group
        self._capacity: int | None = None

    @property
    def capacity(self) -> int:
        """Transitions a task that are kept, all learners together."""
        if self._capacity is None:
            self._capacity = sum(self._group._all("capacity"))
        return self._capacity

    @property
    def inserted(self) -> int:
        """Transitions that every task has ever received."""
        return int(self._group._first("seen"))

    def segment(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Transitions number `start` to `stop` of every task."""
        self._group._settle()
        bounds = self._own(start), self._own(stop)
        refs = [one.segment.remote(first, last) for one, first, last in zip(self._group.actors, *bounds, strict=True)]
        parts = [answer["rows"] for answer in self._group._answers(refs)]
        rows = np.empty((parts[0].shape[0], stop - start, parts[0].shape[2]), parts[0].dtype)
        for rank, part in enumerate(parts):
            rows[:, self._places(rank, start)] = part
        return {"rows": rows}

    def load_segment(self, start: int, stop: int, arrays: dict[str, np.ndarray]) -> None:
        """Put back what `segment` gave."""
        self._group._settle()
        rows = arrays["rows"]
        calls = []
        for rank, (one, first, last) in enumerate(
            zip(self._group.actors, self._own(start), self._own(stop), strict=True)
        ):
            part = np.ascontiguousarray(rows[:, self._places(rank, start)])
            calls.append(one.load_segment.remote(first, last, {"rows": part}))
        self._group._answers(calls)

    def _own(self, transitions: int) -> list[int]:
        size = len(self._group.actors)
        return [Share(rank, size).count(transitions) for rank in range(size)]

    def _places(self, rank: int, start: int) -> slice:
        size = len(self._group.actors)
        return slice((rank - start) % size, None, size)


def _reserve(config: LearnerConfig, bundle: dict[str, float]) -> PlacementGroup | None:
    """Room for all learners, near to each other; None where they hold nothing.

    Raises:
        ClusterFailure: there is none.
    """
    wanted = {kind: amount for kind, amount in bundle.items() if amount}
    if not wanted:
        return None
    place: PlacementGroup = placement_group([wanted] * config.num, strategy="PACK")
    if not place.wait(config.timeout):
        available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        free = {kind: available.get(kind, 0) for kind in wanted}
        remove_placement_group(place)
        raise ClusterFailure(
            f"learner.num={config.num} learners of {wanted} each find no room after {config.timeout:g} s, "
            f"there is {free}: lower learner.num, learner.cpus or learner.gpus"
        )
    return place


def _dead(actor: Any) -> bool:
    try:
        ray.get(actor.pid.remote(), timeout=1.0)
    except RayActorError:
        return True
    except RayError:  # alive and busy, or it cannot be told
        return False
    return False
