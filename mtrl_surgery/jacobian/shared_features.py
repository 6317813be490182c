"""Surgery on the gradients by features: one pass through the trunk, whatever the number of tasks.

Shared parameters that a loss reaches past the features (*late* ones, such as MTAN's convolutions between the levels of
its branches) have exact gradients of every task from the heads' passes. The method does not see them, but its weights
combine them too: with the trunk, they get the gradient of one weighted loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.graph import Node

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks, added
from mtrl_surgery.jacobian.shared_engine import SharedEngine
from mtrl_surgery.jacobian.shared_graph import Reached, edge_of, gradients, walk
from mtrl_surgery.jacobian.shared_roles import Roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods.base import AnyMethod, JacobianMethod
from mtrl_surgery.methods.config import MethodError


@runtime_checkable
class ByFeatures(Protocol):
    """A method that was published for features and asks for what the sum over a batch hides."""

    def feature_direction(self, jacobian_KBZ: Tensor, features_BZ: Tensor) -> Tensor:
        """Gradients by the features [K, B, Z] and the features [B, Z] -> what to back-propagate, [B, Z]."""


def given_features(features: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The features.

    Raises:
        MethodError: for a feature that was detached from the trunk, or none.
    """
    if not isinstance(features, Iterable):
        raise MethodError(f"features is a {type(features).__name__}: give a tensor, or a list of them")
    found = [features] if isinstance(features, Tensor) else list(features)
    for tensor in found:
        if not isinstance(tensor, Tensor) or not tensor.requires_grad or tensor.is_leaf:
            what = f"one of shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise MethodError(f"features: {what} is detached from the shared parameters")
    if not found:
        raise MethodError("features is empty")
    return found


class FeatureEngine(SharedEngine):
    """The Jacobian's columns are the features' elements; a direction by them goes through the trunk once.

    Args:
        losses: One scalar a task.
        heads: The walk from the losses down to the features.
        features: The tensors.
        method: It will be asked.
        roles: The parameters, with the present tasks' own.
        scale: See `SharedEngine`.

    Raises:
        MethodError: if no loss passes a feature; if a loss reaches a task's own parameter through the features, or a
            shared one past them and the method has no weights to combine its gradients by.
    """

    def __init__(
        self,
        losses: Sequence[Tensor],
        heads: Reached,
        features: Sequence[Tensor],
        method: AnyMethod,
        roles: Roles,
        scale: Tensor | None,
    ) -> None:
        behind = walk([edge_of(tensor) for tensor in features]).tasks
        super().__init__(losses, roles, {id(tensor) for tensor in (*heads.tasks, *behind)}, scale)
        self._features = features
        past = {id(tensor) for tensor in heads.tasks}
        self._late = [tensor for tensor in self._shared if id(tensor) in past]
        self._late_rows: dict[int, Block] = {}
        for tensor in features:
            if edge_of(tensor) not in heads.edges:
                raise MethodError(f"features: no loss passes through the one of shape {tuple(tensor.shape)}")
        if self._late and isinstance(method, JacobianMethod):
            raise MethodError(
                f"{method.name}: a loss reaches a shared parameter {tuple(self._late[0].shape)} past the features; "
                "only methods that weight the tasks can combine its gradients: take one of them, or freeze such "
                "parameters (requires_grad_(False))"
            )
        own = {id(tensor) for group in self._own for tensor in group}
        for tensor in behind:
            if id(tensor) in own:
                raise MethodError(f"a task's own parameter {tuple(tensor.shape)} is reached by the features")

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The features' shapes."""
        return tuple(tuple(tensor.shape) for tensor in self._features)

    def jacobian(self) -> Blocks:
        """Every task's gradient by the features, [K, Z]; the trunk's graph stays for `through`."""
        with stopped_at(self._features):
            blocks = self._rows([*self._features, *self._late], own=True, retain=True)
        count = len(self._features)
        self._late_rows = {id(p): block for p, block in zip(self._late, blocks[count:], strict=True)}
        return Blocks(blocks[:count], [tensor.numel() for tensor in self._features])

    def ask(
        self, method: JacobianMethod[Any], blocks: Blocks, gramian_KK: Tensor, losses_K: Tensor, team: Team
    ) -> Tensor:
        """A Jacobian method's direction by the features, all elements of this process's.

        The method sees the samples of all processes, each feature's behind each other. One that was published for
        features sees them as an axis of its own: the features' first; the rest is flattened.

        Args:
            method: For the present tasks.
            blocks: Every task's gradient by this process's features.
            gramian_KK: Of all processes' gradients.
            losses_K: The whole batch's.
            team: The processes.

        Raises:
            MethodError: if such a method's features don't have a batch size in common.
        """
        parts = [
            team.gather(losses_K.new_zeros(len(losses_K), size) if block is None else block, 1)
            for block, size in zip(blocks.blocks, blocks.sizes, strict=True)
        ]
        sizes = [part.shape[1] for part in parts]
        if isinstance(method, ByFeatures):
            direction = self._by_sample(method, parts, team)
        else:
            direction = method.direction(torch.cat(parts, dim=1), gramian_KK, losses_K)
        return torch.cat([team.mine(part) for part in direction.split(sizes)])

    def _by_sample(self, method: ByFeatures, parts: Sequence[Tensor], team: Team) -> Tensor:
        shapes = self.shapes
        if not shapes[0] or any(shape[:1] != shapes[0][:1] for shape in shapes):
            raise MethodError(
                f"features: their first axis must be the batch, of one size; the shapes are {list(shapes)}"
            )
        batch = shapes[0][0] * team.size
        jacobian_KBZ = torch.cat([part.unflatten(1, (batch, -1)) for part in parts], dim=2)
        values = [team.gather(tensor.detach().to(parts[0]), 0).reshape(batch, -1) for tensor in self._features]
        direction_BZ = method.feature_direction(jacobian_KBZ, torch.cat(values, dim=1))
        rows = direction_BZ.split([value.shape[1] for value in values], dim=1)
        return torch.cat([row.flatten() for row in rows])

    def through(self, direction: Blocks, weights_K: Tensor | None) -> Blocks:
        """A direction by the features as the gradient by the shared parameters; frees the trunk's graph.

        Args:
            direction: One row.
            weights_K: This process's weights of the tasks, for the late parameters; None where the direction is no sum
                of the tasks' rows, which only is where there are none.
        """
        ends, cotangents = [], []
        for tensor, block in zip(self._features, direction.blocks, strict=True):
            if block is not None:
                scaled = block if self._scale is None else block * self._scale.to(block.device)
                ends.append(tensor)
                cotangents.append(scaled.to(tensor.dtype).reshape(tensor.shape))
        found = gradients(ends, self._shared, cotangents)
        by_id = {id(p): grad for p, grad in zip(self._shared, found, strict=True)}
        row = self._row([by_id.get(id(p)) for p in self.roles.shared])
        for place, tensor in enumerate(self.roles.shared):
            block = self._late_rows.get(id(tensor))
            if block is not None and weights_K is not None:
                row.blocks[place] = added(row.blocks[place], (weights_K.to(self.dtype) @ block)[None])
        return row


@contextlib.contextmanager
def stopped_at(features: Sequence[Tensor]) -> Iterator[None]:
    """Within, no gradient flows on past the features, where one may lie behind another.

    A gradient by a feature is captured before the hook takes it away; operations on no gradient cost nothing.
    """
    outputs: dict[Node, set[int]] = {}
    for tensor in features:
        node, number = edge_of(tensor)
        outputs.setdefault(node, set()).add(number)

    def without(numbers: set[int]) -> Any:
        return lambda grads: tuple(None if number in numbers else grad for number, grad in enumerate(grads))

    handles = [node.register_prehook(without(numbers)) for node, numbers in outputs.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
