"""Replay that keeps the tasks apart: one ring of packed transitions a task."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Transitions(Protocol):
    """T vector steps of N copies of some tasks; `envs.rollout.Chunk` is one."""

    @property
    def tasks(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def obs_KTNO(self) -> np.ndarray: ...  # noqa: D102
    @property
    def action_KTNA(self) -> np.ndarray: ...  # noqa: D102
    @property
    def reward_KTN(self) -> np.ndarray: ...  # noqa: D102
    @property
    def next_obs_KTNO(self) -> np.ndarray: ...  # noqa: D102
    @property
    def terminated_KTN(self) -> np.ndarray: ...  # noqa: D102


class Batch(NamedTuple):
    """B transitions of each task; `terminated_KB` is 1 where bootstrapping stops."""

    obs_KBO: Tensor
    action_KBA: Tensor
    next_obs_KBO: Tensor
    reward_KB: Tensor
    terminated_KB: Tensor


class Share(NamedTuple):
    """Which transitions are one learner's: those whose number in their task is `rank` modulo `size`."""

    rank: int = 0
    size: int = 1

    def count(self, transitions: int) -> int:
        """How many of a task's first `transitions` are this learner's."""
        return max(0, -((self.rank - transitions) // self.size))


class Replay:
    """K rings of S transitions. A transition is one row [obs, action, next_obs, reward, terminated] of D floats.

    One row a transition makes sampling a single gather, whatever the number of fields. The ring's slot of a task's n-th
    transition is n modulo S, so counts alone rebuild it. Rewards are stored raw. Of several learners each keeps its
    share of what is added, and counts its own.
    """

    def __init__(
        self,
        num_tasks: int,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        self.num_tasks = num_tasks
        self.capacity = capacity
        self._share = share or Share()
        self._widths = [observation_dim, action_dim, observation_dim, 1, 1]
        self.width = sum(self._widths)
        self._rows_KSD = torch.zeros(num_tasks, capacity, self.width, device=device)
        self._row_offset_K1 = torch.arange(num_tasks, device=device).unsqueeze(1) * capacity
        self.inserted_K = np.zeros(num_tasks, dtype=np.int64)
        self.seen_K = np.zeros(num_tasks, dtype=np.int64)  # by all learners together

    @property
    def inserted(self) -> int:
        """Transitions that every task has ever received here."""
        return int(self.inserted_K.min())

    def add(self, chunk: Transitions) -> None:
        """Append this learner's share of a chunk; copies of the same vector step become neighbours."""
        tasks = list(chunk.tasks)
        rows_KTND = np.concatenate(
            [
                chunk.obs_KTNO,
                chunk.action_KTNA,
                chunk.next_obs_KTNO,
                chunk.reward_KTN[..., None],
                chunk.terminated_KTN[..., None].astype(np.float32),
            ],
            axis=-1,
            dtype=np.float32,
        )
        rows_KRD = torch.from_numpy(rows_KTND.reshape(len(tasks), -1, self.width))
        for task, rows_RD in zip(tasks, rows_KRD, strict=True):
            first = (self._share.rank - int(self.seen_K[task])) % self._share.size
            own_RD = rows_RD[first :: self._share.size]
            self._write(task, int(self.inserted_K[task]), own_RD)
            self.inserted_K[task] += len(own_RD)
            self.seen_K[task] += len(rows_RD)

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw `batch_size` transitions of each task, uniformly and with replacement."""
        sizes_K1 = torch.from_numpy(np.minimum(self.inserted_K, self.capacity)).unsqueeze(1)
        uniform_KB = torch.rand(self.num_tasks, batch_size, dtype=torch.float64, generator=generator)
        slot_KB = (uniform_KB * sizes_K1).long().to(self._rows_KSD.device, non_blocking=True)
        rows_KBD = self._rows_KSD.view(-1, self.width)[(slot_KB + self._row_offset_K1)]
        obs_KBO, action_KBA, next_obs_KBO, reward_KB1, terminated_KB1 = rows_KBD.split(self._widths, dim=-1)
        return Batch(obs_KBO, action_KBA, next_obs_KBO, reward_KB1[..., 0], terminated_KB1[..., 0])

    def observations(self) -> Tensor:
        """The observations that every task holds, obs_KSO, oldest slot first until the ring is full."""
        return self._rows_KSD[:, : min(self.inserted, self.capacity), : self._widths[0]]

    def segment(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The transitions number `start` to `stop` of every task, [K, stop - start, D].

        Raises:
            ValueError: some of them were overwritten already, or never inserted.
        """
        if not max(0, self.inserted - self.capacity) <= start <= stop <= self.inserted:
            kept = f"[{max(0, self.inserted - self.capacity)}, {self.inserted})"
            raise ValueError(f"transitions [{start}, {stop}) are not in the replay, which holds {kept}")
        slots = torch.arange(start, stop, device=self._rows_KSD.device) % self.capacity
        return {"rows": self._rows_KSD[:, slots].cpu().numpy()}

    def load_segment(self, start: int, stop: int, arrays: dict[str, np.ndarray]) -> None:
        """Put back what `segment` gave; `load_state_dict` comes after the last one.

        Raises:
            ValueError: the arrays don't have this replay's shape.
        """
        rows = arrays["rows"]
        if rows.shape != (self.num_tasks, stop - start, self.width):
            raise ValueError(
                f"replay segment [{start}, {stop}) has shape {rows.shape}, "
                f"this run needs {(self.num_tasks, stop - start, self.width)}"
            )
        for task, rows_RD in enumerate(torch.from_numpy(np.array(rows))):
            self._write(task, start, rows_RD)
        self.inserted_K = np.maximum(self.inserted_K, stop)

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the rows that some tasks have beyond the slowest one (asynchronous collection only)."""
        ahead = {}
        for task, inserted in enumerate(self.inserted_K.tolist()):
            if inserted > self.inserted:
                slots = torch.arange(max(self.inserted, inserted - self.capacity), inserted) % self.capacity
                ahead[str(task)] = self._rows_KSD[task, slots.to(self._rows_KSD.device)].cpu()
        return {"inserted": self.inserted_K.tolist(), "seen": self.seen_K.tolist(), "ahead": ahead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value, after the segments."""
        self.inserted_K = np.array(state["inserted"], dtype=np.int64)
        self.seen_K = np.array(state["seen"], dtype=np.int64)
        for task, rows_RD in state["ahead"].items():
            self._write(int(task), int(self.inserted_K[int(task)]) - len(rows_RD), torch.as_tensor(rows_RD))

    def _write(self, task: int, start: int, rows_RD: Tensor) -> None:
        rows_RD, start = rows_RD[-self.capacity :], start + max(0, len(rows_RD) - self.capacity)
        slots = torch.arange(start, start + len(rows_RD)) % self.capacity
        device = self._rows_KSD.device
        self._rows_KSD[task, slots.to(device)] = rows_RD.to(device)
