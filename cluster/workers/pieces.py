"""What a worker is given to do: a piece of an order, that is some of its tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cluster.training.collect import ChunkOrder, EvaluationOrder
from envs.evaluation import TaskEvaluation


@dataclass(eq=False)
class Evaluation:
    """An evaluation that was ordered, and the rows that have come."""

    order: EvaluationOrder
    weights: Any  # ObjectRef
    rows: dict[int, TaskEvaluation] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(eq=False)
class Piece:
    """Some tasks of a piece of work, with a worker or waiting for one; work=None only builds environments."""

    tasks: tuple[int, ...]
    work: ChunkOrder | Evaluation | None
    weights: Any = None  # ObjectRef of a chunk's weights
    moves: bool = False  # it begins with building environments

    @property
    def kind(self) -> str:
        """What it is, for counts and messages."""
        return {ChunkOrder: "chunk", Evaluation: "evaluation"}.get(type(self.work), "start")
