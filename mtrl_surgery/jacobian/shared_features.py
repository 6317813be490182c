"""Surgery on the gradients by features: one pass through the trunk, whatever the number of tasks.

Shared parameters that a loss reaches past the features (*late* ones, such as MTAN's convolutions between the levels of
its branches) have exact gradients of every task from the heads' passes. The method does not see them, but its weights
combine them too: with the trunk, they get the gradient of one weighted loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks, added
from mtrl_surgery.jacobian.shared_engine import SharedEngine, gradients
from mtrl_surgery.jacobian.shared_graph import Cut, Edge, Walk, edge_of, is_nested, walk
from mtrl_surgery.jacobian.shared_roles import Roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods.base import AnyMethod, JacobianMethod
from mtrl_surgery.methods.config import MethodError


@runtime_checkable
class ByFeatures(Protocol):
    """A method that was published for features and asks for what the sum over a batch hides."""

    def feature_direction(self, jacobian_KBZ: Tensor, features_BZ: Tensor) -> Tensor:
        """Gradients by the features [K, B, Z] and the features [B, Z] -> what to back-propagate, [B, Z]."""


def feature_edges(features: Sequence[Tensor]) -> list[Edge]:
    """The features' edges.

    Raises:
        MethodError: for a feature that was detached from the trunk, or none.
    """
    edges = []
    for tensor in features:
        if not tensor.requires_grad or tensor.is_leaf:
            raise MethodError(f"features: one of shape {tuple(tensor.shape)} is detached from the shared parameters")
        edges.append(edge_of(tensor))
    if not edges:
        raise MethodError("features is empty")
    return edges


class FeatureEngine(SharedEngine):
    """The Jacobian's columns are the features' elements; a direction by them goes through the trunk once.

    Args:
        heads: The walk from the losses down to the features.
        features: The tensors.
        method: What will be asked.
        roles, chunk_size, scale, fast_convolutions: See `SharedEngine`.

    Raises:
        MethodError: if a loss reaches a task's own parameter through the features, or a shared one past them and the
            method has no weights to combine its gradients by.
    """

    def __init__(
        self,
        heads: Walk,
        features: Sequence[Tensor],
        method: AnyMethod,
        roles: Roles,
        chunk_size: int | None,
        scale: Tensor | None,
        fast_convolutions: bool = True,
    ) -> None:
        super().__init__(heads, roles, chunk_size, scale, fast_convolutions)
        self._values = [tensor.detach() for tensor in features]
        self._features = feature_edges(features)
        self._trunk = walk(self._features)
        for node in heads.leaves:
            if node in self._shared and isinstance(method, JacobianMethod):
                raise MethodError(
                    f"{method.name}: a loss reaches a shared parameter {tuple(node.variable.shape)} past the features; "
                    "only methods that weight the tasks can combine its gradients: take one of them, or leave such "
                    "parameters out by shared_parameters and task_parameters"
                )
        for node in self._trunk.leaves:
            if any(node in own for own in self._own):
                raise MethodError(f"a task's own parameter {tuple(node.variable.shape)} is reached by the features")

    @property
    def reached(self) -> set[int]:
        """The ids of the parameters that a loss reaches, also through the features."""
        return super().reached | {id(leaf.variable) for leaf in self._trunk.leaves}

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The features' shapes."""
        return tuple(tuple(tensor.shape) for tensor in self._values)

    def _find_cut(self) -> Cut:
        """The heads end at the features."""
        by_task: list[list[Edge]] = []
        for task, own in enumerate(self._own):
            reached = [edge for edge, tasks in self._graph.stopped.items() if tasks >> task & 1]
            leaves = [node for node, tasks in self._graph.leaves.items() if tasks >> task & 1]
            by_task.append(reached + [(node, 0) for node in leaves if node in own or node in self._shared])
        ends = {node for edges in [self._features, *by_task] for node, _ in edges}
        return Cut(by_task, [], is_nested(self._trunk, ends))

    def jacobian(self) -> Blocks:
        """Every task's gradient by the features, [K, Z]; the trunk's graph stays for `through`."""
        self._run_heads()
        blocks: list[Block] = []
        sizes = []
        for edge in self._features:
            tasks = [task for task, cotangents in enumerate(self._cotangents) if edge in cotangents]
            node, number = edge
            sizes.append(int(torch.Size(node._input_metadata[number].shape).numel()))
            blocks.append(self._block([([task], self._cotangents[task][edge][None]) for task in tasks]))
        return Blocks(blocks, sizes)

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
        shapes = [tuple(tensor.shape) for tensor in self._values]
        if not shapes[0] or any(shape[:1] != shapes[0][:1] for shape in shapes):
            raise MethodError(f"features: their first axis must be the batch, of one size; the shapes are {shapes}")
        batch = shapes[0][0] * team.size
        jacobian_KBZ = torch.cat([part.unflatten(1, (batch, -1)) for part in parts], dim=2)
        values = [team.gather(tensor.to(parts[0]), 0).reshape(batch, -1) for tensor in self._values]
        direction_BZ = method.feature_direction(jacobian_KBZ, torch.cat(values, dim=1))
        rows = direction_BZ.split([value.shape[1] for value in values], dim=1)
        return torch.cat([row.flatten() for row in rows])

    def through(self, direction: Blocks, weights_K: Tensor | None) -> Blocks:
        """A direction by the features as the gradient by the shared parameters; frees the graph.

        Args:
            direction: One row.
            weights_K: What it weights this process's tasks with, for the late parameters; None where it is no sum of
                the tasks' rows, which only is where there are none.
        """
        edges, cotangents = [], []
        for (node, number), block in zip(self._features, direction.blocks, strict=True):
            if block is None:
                continue
            meta = node._input_metadata[number]
            scaled = block if self._scale is None else block * self._scale.to(block.device)
            edges.append((node, number))
            cotangents.append(scaled.to(meta.dtype).reshape(tuple(meta.shape)))
        found = gradients(edges, cotangents, [(node, 0) for node in self._shared], retain=self._cut.nested)
        row: list[Block] = []
        for node, grad in zip(self._shared, found, strict=True):
            passed = None if grad is None else self._block([([0], grad[None])], 1)
            row.append(added(passed, None if weights_K is None else self._weighted_direct(node, weights_K)))
        self._release()
        return Blocks(row, self.shared_sizes)
