"""One step of a method over a shared input: from a batch's graph to `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import alignment
from mtrl_surgery.jacobian.shared_blocks import Blocks, Gradients, summed, write_own, write_shared
from mtrl_surgery.jacobian.shared_engine import SharedEngine
from mtrl_surgery.jacobian.shared_features import FeatureEngine
from mtrl_surgery.jacobian.shared_missing import present_only
from mtrl_surgery.jacobian.shared_roles import Roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting


@dataclass
class Batch:
    """One call's losses.

    Attributes:
        tasks: The present tasks, in increasing order; K counts them only.
        losses_K: What their losses are worth.
        roles: The parameters, with the own ones of all tasks, missing ones too; the shared ones on one device.
        scale: A scaler's, or None.
        engine: The graph of this process's shard.
        team: The processes; once they agreed, `tasks` and `losses_K` are the whole batch's.
    """

    tasks: list[int]
    losses_K: Tensor
    roles: Roles
    scale: Tensor | None
    engine: SharedEngine
    team: Team

    def agreed(self) -> Batch:
        """With the whole batch's losses."""
        return replace(self, tasks=self.team.tasks, losses_K=self.team.losses(self.losses_K))


class MicroBatches:
    """What is kept from one micro-batch to the next: the summed Jacobian, losses and own gradients of all K tasks."""

    def __init__(self, num_tasks: int) -> None:
        self._num_tasks = num_tasks
        self._blocks: Blocks | None = None
        self._losses: dict[int, Tensor] = {}
        self._own: dict[int, Gradients] = {}

    @property
    def tasks(self) -> list[int]:
        """Those that had a loss in a micro-batch."""
        return sorted(self._losses)

    def reached(self, shared: Sequence[Tensor]) -> set[int]:
        """The ids of the parameters that a loss reached; the shared ones in the columns' order."""
        blocks = [] if self._blocks is None else self._blocks.blocks
        found = {id(tensor) for tensor, block in zip(shared, blocks, strict=True) if block is not None}
        return found | {id(tensor) for own in self._own.values() for tensor, _ in own}

    def add(self, batch: Batch) -> None:
        """Adds a micro-batch; its graph is freed."""
        blocks, found = batch.engine.jacobian(), batch.engine.own_gradients
        if self._blocks is None:
            self._blocks = Blocks([None] * len(blocks.sizes), blocks.sizes)
        self._blocks.add_(blocks, batch.tasks, self._num_tasks)
        for place, task in enumerate(batch.tasks):
            loss = batch.losses_K[place]
            self._losses[task] = self._losses[task] + loss if task in self._losses else loss
            self._own[task] = summed(self._own.get(task, []), found[place])

    def whole(self, last: Batch) -> tuple[Batch, Blocks, list[Gradients]]:
        """All micro-batches as one: its losses, its Jacobian and its tasks' own gradients."""
        assert self._blocks is not None
        tasks = self.tasks
        losses_K = torch.stack([self._losses[task] for task in tasks])
        blocks = self._blocks if len(tasks) == self._num_tasks else self._blocks.rows(tasks)
        return replace(last, tasks=tasks, losses_K=losses_K), blocks, [self._own[k] for k in tasks]


class SharedStep:
    """A method with what it has met so far.

    Attributes:
        calls: Directions so far, skipped ones included.
        skipped: Directions that a scaler's non-finite gradients spoilt; the method has not seen them.
        first_bad_call_K: The first call at which a task's loss or gradient was not finite, or -1.
        direction_norm: Of the last direction over the shared parameters, before clipping.
        gramian_KK: Of the last call's gradients, where they were built; K counts the present tasks only.
        seen: Those tasks.
        alignment_K: The cosines between the last direction and those gradients, where the call looked.
        owes: The tasks whose losses the method is to be shown after the step; empty for a skipped step, None for
            nothing.
    """

    def __init__(self, method: AnyMethod, max_norm: float | None, max_jacobian_bytes: int) -> None:
        self.method, self.max_norm, self.max_jacobian_bytes = method, max_norm, max_jacobian_bytes
        self.calls = self.skipped = 0
        self.first_bad_call_K = torch.full((method.num_tasks,), -1)
        self.direction_norm = torch.zeros(())
        self.gramian_KK: Tensor | None = None
        self.seen: list[int] = []
        self.alignment_K: Tensor | None = None
        self._diagnose = False
        self.owes: list[int] | None = None

    def to(self, device: torch.device) -> None:
        """Moves the method and the flags to where the parameters are."""
        if self.first_bad_call_K.device != device:
            self.method.to(device)
            self.first_bad_call_K = self.first_bad_call_K.to(device)

    def run(self, batch: Batch, diagnose: bool) -> None:
        """Differentiates, asks the method and adds to `.grad`, at the least cost that the method allows."""
        engine, method, team = batch.engine, self.method, batch.team
        batch = self._begin(batch, diagnose)
        if isinstance(method, LossWeighting) and not diagnose:
            self._weigh_losses(batch)
        elif isinstance(engine, FeatureEngine):
            direction, weights_K = self._solve(batch, team.share(engine.jacobian()))
            by_parameters = engine.through(direction, None if weights_K is None else team.weights(weights_K))
            direction, own = team.sum(by_parameters, team.share_own(engine.own_gradients))
            self._write(batch, direction, own, weights_K)
        elif isinstance(method, GramianWeighting) and engine.jacobian_bytes > self.max_jacobian_bytes:
            weights_K = self._gramian_weights(batch, engine.gramian(self.max_jacobian_bytes, team))
            direction = engine.combined(team.weights(weights_K))
            self._write(batch, *team.sum(direction, team.share_own(engine.own_gradients)))
        else:
            self._from_jacobian(batch, engine.jacobian(), engine.own_gradients)

    def run_micro_batches(self, earlier: MicroBatches, last: Batch, diagnose: bool) -> None:
        """The same for micro-batches, as one."""
        batch, blocks, own = earlier.whole(last)
        self._from_jacobian(self._begin(batch, diagnose), blocks, own)

    def _begin(self, batch: Batch, diagnose: bool) -> Batch:
        self._diagnose, self.gramian_KK, self.alignment_K = diagnose, None, None
        batch = batch.agreed()
        self.seen = batch.tasks
        return batch

    def _from_jacobian(self, batch: Batch, blocks: Blocks, own: Sequence[Gradients]) -> None:
        team = batch.team
        blocks, own = team.sum(team.share(blocks), team.share_own(own), rows=len(team.tasks))
        direction, weights_K = self._solve(batch, blocks)
        self._write(batch, direction, own, weights_K)

    def _weigh_losses(self, batch: Batch) -> None:
        """One plain backward of the weighted sum, which gives the tasks' own parameters weighted gradients too."""
        weights_K = self._call(batch, torch.isfinite(batch.losses_K), lambda method: method.weights(batch.losses_K))
        if self.max_norm is None and batch.team.size == 1 and batch.engine.is_fresh:
            self.direction_norm = batch.engine.backward_weighted(weights_K)
        else:
            direction, own = batch.engine.weighted_losses(batch.team.weights(weights_K))
            self._write(batch, *batch.team.sum(direction, own))
        # The tasks' own gradients are never built: a bad gradient behind good losses is laid to every task.
        if batch.scale is None:
            finite_K = torch.isfinite(batch.losses_K)
            self._flag(batch, torch.where(finite_K.all(), torch.isfinite(self.direction_norm), finite_K))

    def _solve(self, batch: Batch, blocks: Blocks) -> tuple[Blocks, Tensor | None]:
        """The direction, and the tasks' weights in it where it is a weighted sum of the blocks' rows.

        The blocks are the whole batch's over the shared parameters, or this process's over its features.
        """
        losses_K, engine = batch.losses_K, batch.engine
        gramian_KK = blocks.gramian(losses_K)
        if isinstance(engine, FeatureEngine):
            gramian_KK = batch.team.total(gramian_KK)
        if isinstance(self.method, GramianWeighting):
            weights_K = self._gramian_weights(batch, gramian_KK)
            return blocks.weighted(weights_K), weights_K
        self.gramian_KK = gramian_KK
        finite_K = torch.isfinite(losses_K + gramian_KK.diagonal())
        if isinstance(self.method, LossWeighting):
            weights_K = self._call(batch, finite_K, lambda method: method.weights(losses_K))
            self._align(gramian_KK, weights_K)
            return blocks.weighted(weights_K), weights_K

        def ask(method: JacobianMethod[Any]) -> Tensor:
            if isinstance(engine, FeatureEngine):
                return engine.ask(method, blocks, gramian_KK, losses_K, batch.team)
            return method.direction(blocks.matrix(losses_K), gramian_KK, losses_K)

        direction = blocks.split(self._call(batch, finite_K, ask, sum(blocks.sizes)))
        if self._diagnose:
            inner_K = blocks.products(direction, losses_K)
            square = direction.products(direction, losses_K[:1])
            if isinstance(engine, FeatureEngine):
                inner_K, square = batch.team.total(inner_K), batch.team.total(square)
            self.alignment_K = alignment(gramian_KK, inner_K, square.sqrt())
        return direction, None

    def _gramian_weights(self, batch: Batch, gramian_KK: Tensor) -> Tensor:
        self.gramian_KK = gramian_KK
        finite_K = torch.isfinite(batch.losses_K + gramian_KK.diagonal())
        weights_K = self._call(batch, finite_K, lambda method: method.weights(gramian_KK, batch.losses_K))
        self._align(gramian_KK, weights_K)
        return weights_K

    def _align(self, gramian_KK: Tensor, weights_K: Tensor) -> None:
        """Of a direction that is a weighted sum of the gradients, the Gramian says all."""
        if self._diagnose:
            weights_K = weights_K.double()
            inner_K = gramian_KK.double() @ weights_K
            square = (weights_K @ inner_K).clamp(min=0.0)  # rounding may leave it below
            self.alignment_K = alignment(gramian_KK, inner_K, square.sqrt()).clamp(-1.0, 1.0)

    def _call(self, batch: Batch, finite_K: Tensor, ask: Callable[[Any], Tensor], size: int | None = None) -> Tensor:
        """Asks the method, and answers NaN in its place where a scaler is about to skip the step.

        With a scaler the host looks whether all is finite, as `scaler.step` does again: what a too large scale made
        infinite must not enter the method's state.
        """
        self.calls += 1
        self._flag(batch, finite_K if batch.scale is None else torch.isfinite(batch.losses_K))
        if batch.scale is not None and not bool(finite_K.all()):
            self.skipped += 1
            self.owes = [] if self.method.needs_losses_after_step else None
            return batch.losses_K.new_full((size or len(batch.tasks),), torch.nan)
        with present_only(self.method, batch.tasks) as method:
            answer = ask(method)
        self.owes = list(batch.tasks) if self.method.needs_losses_after_step else None
        return answer

    def _flag(self, batch: Batch, finite_K: Tensor) -> None:
        whole_K = finite_K
        if len(batch.tasks) < self.method.num_tasks:
            whole_K = torch.ones_like(self.first_bad_call_K, dtype=torch.bool)
            whole_K[batch.tasks] = finite_K
        new_K = ~whole_K & (self.first_bad_call_K < 0)
        self.first_bad_call_K = torch.where(new_K, self.calls - 1, self.first_bad_call_K)

    def _write(
        self, batch: Batch, direction: Blocks, own: Sequence[Gradients], weights_K: Tensor | None = None
    ) -> None:
        self.direction_norm = write_shared(batch.roles.shared, direction, self.max_norm, batch.scale)
        weighs_own = isinstance(self.method, LossWeighting)
        for place, gradients in enumerate(own):
            weight = weights_K[place] if weighs_own and weights_K is not None else None
            write_own((tensor, grad if weight is None else grad * weight) for tensor, grad in gradients)
