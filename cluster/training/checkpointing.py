"""Gathering the state of a run into a checkpoint and putting it back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cluster.config import ClusterError
from cluster.training.contracts import Learner, Positions
from envs.streams import Position
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore, Segment
from mtrl_surgery.tensors import NanStateError, nan_paths, to_arrays, to_tensors

_UNCHECKED = ("metrics",)  # sums for the next rows; they may hold a gap that is not the networks' fault


class Checkpointer:
    """Saves and restores a learner with its replay; transitions are written to disk once and shared by checkpoints."""

    def __init__(self, store: CheckpointStore, learner: Learner) -> None:
        """Nothing is saved yet."""
        self._store = store
        self._learner = learner
        self._segments: list[Segment] = []

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint of the learner and of the driver's own `state`.

        Raises:
            NonFiniteError, NanStateError: the learner went wrong; nothing was written.
            CheckpointError: no room, or a value that can't be stored; older checkpoints are whole.
        """
        learner = to_arrays(self._learner.state_dict())
        policy_weights = self._learner.policy_weights()
        self._refuse_nan(learner, policy_weights)
        self._write_replay()
        whole = {**state, "learner": learner, "policy_weights": policy_weights}
        return self._store.save(step, whole, self._segments)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the learner where the checkpoint has it, and forget what was saved after it."""
        self._store.rewind(checkpoint)
        self._segments = list(checkpoint.segments)
        for segment in self._segments:
            self._learner.replay.load_segment(segment.start, segment.stop, self._store.read_segment(segment))
        self._learner.load_state_dict(to_tensors(checkpoint.state["learner"]))

    def _write_replay(self) -> None:
        replay = self._learner.replay
        oldest = max(0, replay.inserted - replay.capacity)
        self._segments = [segment for segment in self._segments if segment.stop > oldest]
        start = max(oldest, self._segments[-1].stop if self._segments else 0)
        if start < replay.inserted:
            arrays = replay.segment(start, replay.inserted)
            self._segments.append(self._store.write_segment(start, replay.inserted, arrays))

    def _refuse_nan(self, learner: Mapping[str, Any], policy_weights: np.ndarray) -> None:
        checked = {key: value for key, value in learner.items() if key not in _UNCHECKED}
        where = next(nan_paths(checked, "learner"), None)
        if where is None and not np.isfinite(policy_weights).all():
            where = "policy_weights"
        if where is not None:
            self._learner.metrics()  # a learner that noticed raises its own error, which names task and update
            raise NanStateError(f"{where} holds a NaN; the last checkpoint before it is kept")


def pack_positions(positions: Positions) -> dict[tuple[int, int], dict[str, Any]]:
    """Stream positions as plain values."""
    return {key: dict(vars(position)) for key, position in sorted(positions.items())}


def unpack_positions(packed: Mapping[tuple[int, int], Mapping[str, Any]]) -> dict[tuple[int, int], Position]:
    """What `pack_positions` packed."""
    return {key: Position(**fields) for key, fields in packed.items()}


def check_same(what: str, saved: Any, mine: Any) -> None:
    """Refuse to resume into another run.

    Raises:
        ClusterError: the checkpoint's value differs from this run's.
    """
    if saved != mine:
        raise ClusterError(f"the checkpoint has {what} = {saved!r}, this run has {mine!r}")
