"""Sync mode: the schedule decides which weights collect which chunk, so a run is a pure function of config and seed.

Round c inserts chunk c and does the updates that it pays for. Chunk c was collected with version max(0, c - 1) of the
weights: version v is what round v - 1 left behind, 0 the initial weights. So chunk c + 1 is ordered before round c
learns, and the workers never wait for the learner unless they are a whole round ahead. (What an agent measures on the
random warm-up belongs to version 0: the first chunk of the policy has it.)

A signal is heeded before a chunk is inserted and between updates: the checkpoint tells whether the round's chunk is
in the replay already, and the limiter how many of its updates are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.training.checkpointing import pack_positions, unpack_positions
from cluster.training.collect import ChunkOrder, Collected, Lost
from cluster.training.driver import LOOK, POLL, Trainer, TrainerParts
from envs.rollout import merge_chunks
from envs.streams import Position


class SyncTrainer(Trainer):
    """Rounds with overlap; see the file's first lines."""

    mode = "sync"

    def __init__(self, parts: TrainerParts) -> None:
        """See `Trainer`."""
        super().__init__(parts)
        self._round = 0  # rounds done, which is also the version of the newest weights
        self._inserted = 0  # vector steps of this round's chunk if it is in the replay and the next one in flight
        self._weights: np.ndarray = np.empty(0, np.float32)  # the newest
        self._behaviour: np.ndarray = np.empty(0, np.float32)  # those that collect the chunk in flight
        self._behaviour_updates = 0
        self._positions: dict[tuple[int, int], Position] = {}  # before the chunk in flight
        self._tasks: tuple[int, ...] = ()

    def _start(self, state: Mapping[str, Any] | None) -> None:
        self._weights = self.learner.policy_weights()
        if state is None:
            self._behaviour = self._weights
            self.collector.start(None, self._weights.nbytes)
        else:
            self._round, self._inserted = state["round"], state["inserted"]
            self._behaviour = state["behaviour"]["weights"]
            self._behaviour_updates = state["behaviour"]["updates"]
            self.collector.start(unpack_positions(state["positions"]), self._weights.nbytes)
        self._positions = self.collector.positions()
        self._tasks = tuple(sorted({task for task, _ in self._positions}))

    def _state(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "inserted": self._inserted,
            "behaviour": {"weights": self._behaviour, "updates": self._behaviour_updates},
            "positions": pack_positions(self._positions),
        }

    def _loop(self) -> None:
        if self._inserted:
            self._order(self._round + 1, self.step + self._inserted, self._behaviour)
        else:
            self._order(self._round, self.step, self._behaviour)
        self._report()
        while self.step < self.schedule.total_steps:
            if not self._inserted:
                self._insert(self._receive_all())
            self._finish_round()
            self._boundary()

    def _order(self, index: int, start: int, weights: np.ndarray) -> None:
        steps = self.schedule.chunk_length(start)
        if steps == 0:
            return
        actors = None if start < self.limiter.warmup_steps else weights
        self.collector.submit(ChunkOrder(index, steps, max(0, index - 1), actors), self._tasks)

    def _insert(self, pieces: list[Collected]) -> None:
        """Put the round's chunk into the replay and have the next one collected meanwhile."""
        self._whole = False
        chunk = merge_chunks([piece.chunk for piece in pieces])
        for piece in pieces:
            self._count(piece, self._round)
        steps = self.schedule.chunk_length(self.step)
        self._clock.lag.append(self.limiter.updates - self._behaviour_updates)
        self._positions = self.collector.positions()
        self.learner.add(chunk)
        if self.step < self.limiter.warmup_steps <= self.step + steps:
            self._weights = self.learner.policy_weights()  # with what the agent measured on the warm-up
        self._behaviour, self._behaviour_updates = self._weights, self.limiter.updates
        self._order(self._round + 1, self.step + steps, self._behaviour)
        self.recorder.episodes(chunk.episodes)
        self._inserted = steps
        self._whole = True

    def _finish_round(self) -> None:
        """Do the updates that the chunk paid for."""
        end = self.step + self._inserted
        while due := self.limiter.due(end):
            self._learn(min(due, LOOK), end)
            self._heed_signal()
        self._weights = self.learner.policy_weights()
        self._advance(end)
        self._round += 1
        self._inserted = 0

    def _receive_all(self) -> list[Collected]:
        """The chunk in flight, of all tasks. A signal does not wait for it: a resumed run collects it again."""
        pieces: list[Collected] = []
        while sum(len(piece.chunk.tasks) for piece in pieces) < len(self._tasks):
            self._heed_signal()
            received = self._receive(POLL)
            assert not isinstance(received, Lost), "a sync collector orders a lost chunk again"
            if received is not None:
                pieces.append(received)
        return pieces
