"""Per-task gradients where all tasks go through one trunk.

Each loss is back-propagated through its own head only, to the tensors where the tasks' graphs meet. From there one
batched pass carries the gradients of all tasks through the trunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks, Piece, added
from mtrl_surgery.jacobian.shared_graph import Cut, Edge, Node, Walk, cut, is_leaf
from mtrl_surgery.jacobian.shared_heads import pass_heads
from mtrl_surgery.jacobian.shared_roles import Roles, leaf_nodes
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.jacobian.shared_trunk import TrunkBackward
from mtrl_surgery.methods._common import gramian
from mtrl_surgery.methods.config import MethodError

TASKS_AT_ONCE = 8
"""In one pass through convolutions of our own: what the tasks share there is computed once for so many."""


def gradients(
    outputs: Sequence[Edge], cotangents: Sequence[Tensor], inputs: Sequence[Edge], retain: bool, batch: int = 0
) -> list[Tensor | None]:
    """Vector-Jacobian products from edges to edges; `batch` of them at once along a leading axis, or one where it is 0.

    Raises:
        MethodError: if an operation cannot be batched.
    """
    if not outputs or not inputs:
        return [None] * len(inputs)
    sources, targets = [GradientEdge(*edge) for edge in outputs], [GradientEdge(*edge) for edge in inputs]
    try:
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            sources, targets, cotangents, retain_graph=retain, allow_unused=True, is_grads_batched=batch > 0
        )
        return list(found)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if not batch:
            raise
        raise MethodError(
            f"the batched backward pass of {batch} tasks through the trunk failed; set chunk_size=1 for a module that "
            f"torch.vmap cannot handle (a compiled one, an RNN on CUDA): {error}"
        ) from error


class SharedEngine:
    """One batch's graph: its K present tasks are numbered from 0 here.

    Args:
        heads: The walk from the losses.
        roles: The parameters, with the present tasks' own.
        chunk_size: Tasks in one pass through the trunk; all where it is None.
        scale: What the losses are multiplied with, a scalar tensor; None for 1. Every result is unscaled.
        fast_convolutions: Whether `shared_winograd` may take over the trunk's convolutions.
    """

    def __init__(
        self,
        heads: Walk,
        roles: Roles,
        chunk_size: int | None,
        scale: Tensor | None,
        fast_convolutions: bool = True,
    ) -> None:
        self.roles = roles
        self._fast = fast_convolutions
        self.num_tasks = len(heads.roots)
        self._graph, self._chunk_size, self._scale = heads, chunk_size, scale
        reached = {id(leaf.variable): leaf for leaf in heads.leaves}
        self._shared = leaf_nodes(roles.shared, reached)
        self._own = [leaf_nodes(group, reached) for group in roles.own]
        self._wanted = {node: tensor for nodes in (self._shared, *self._own) for node, tensor in nodes.items()}
        self.dtype = torch.float64 if any(p.dtype == torch.float64 for p in roles.shared) else torch.float32
        self.own_gradients: list[list[tuple[Tensor, Tensor]]] = [[] for _ in roles.own]
        """Each task's own parameters with their gradients, scaled; complete after `jacobian` or `gramian`."""
        self._cotangents: list[dict[Edge, Tensor]] = []
        self._direct: dict[Node, list[Piece]] = {}
        self._cut = Cut([], [], nested=False)

    @property
    def shared_sizes(self) -> list[int]:
        """Elements of each shared parameter."""
        return [tensor.numel() for tensor in self._shared.values()]

    @property
    def reached(self) -> set[int]:
        """The ids of the parameters that a loss reaches."""
        return {id(leaf.variable) for leaf in self._graph.leaves}

    @property
    def jacobian_bytes(self) -> int:
        """What the whole Jacobian takes."""
        return self.num_tasks * sum(self.shared_sizes) * torch.finfo(self.dtype).bits // 8

    def weighted_losses(self, weights_K: Tensor) -> tuple[Blocks, list[list[tuple[Tensor, Tensor]]]]:
        """One plain backward of the weighted sum of the losses.

        Returns:
            The gradient as one row over the shared parameters, and that of each task's own parameters (scaled).
        """
        nodes = list(self._wanted)
        cotangents = [self._seed(task) * weights_K[task] for task in range(self.num_tasks)]
        found = gradients(self._graph.roots, cotangents, [(node, 0) for node in nodes], retain=False)
        by_node = {node: grad for node, grad in zip(nodes, found, strict=True) if grad is not None}
        own = [[(p, by_node[node]) for node, p in nodes.items() if node in by_node] for nodes in self._own]
        row = [self._block([([0], by_node[node][None])], 1) if node in by_node else None for node in self._shared]
        return Blocks(row, self.shared_sizes), own

    def backward_weighted(self, weights_K: Tensor) -> Tensor:
        """The same where no `.grad` is there yet: torch's own backward puts the gradients, scaled, where they belong.

        Returns:
            The norm of the shared parameters' gradients, unscaled.
        """
        cotangents = [self._seed(task) * weights_K[task] for task in range(self.num_tasks)]
        sources = [GradientEdge(*edge) for edge in self._graph.roots]
        torch.autograd.backward(sources, cotangents, inputs=list(self._wanted.values()))
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.roles.shared if p.grad is not None])
        return norm if self._scale is None else norm / self._scale

    @property
    def is_fresh(self) -> bool:
        """Whether no parameter has a `.grad`."""
        return all(tensor.grad is None for tensor in self._wanted.values())

    def jacobian(self) -> Blocks:
        """Every task's gradient by the shared parameters; frees the graph."""
        self._run_heads()
        pieces = self._through_trunk(self._cut.trunk_leaves, last=not self._cut.nested)
        blocks = [self._block(pieces.pop(node, []) + self._direct.pop(node, [])) for node in self._shared]
        self._release()
        return Blocks(blocks, self.shared_sizes)

    def gramian(self, max_bytes: int, team: Team) -> Tensor:
        """The Gramian [K, K] without ever holding more than `max_bytes` of the Jacobian.

        The trunk is passed through once for every part of the parameters that fits, and more often for a parameter
        whose K rows do not fit. The graph stays for `combined`.

        Args:
            max_bytes: The bound, but two rows of one parameter are always held, by several processes K.
            team: The processes whose rows are averaged; K is the number of its tasks.
        """
        self._run_heads()
        width = self.num_tasks * torch.finfo(self.dtype).bits // 8
        device = self._seed(0).device
        gramian_KK = torch.zeros(len(team.tasks), len(team.tasks), dtype=self.dtype, device=device)
        self._through_trunk([node for node in self._cut.trunk_leaves if node not in self._shared], last=False)
        remaining = list(self._shared)
        while remaining:
            part, room = [remaining.pop(0)], max_bytes
            room -= self._shared[part[0]].numel() * width
            if room < 0 and team.size == 1:
                gramian_KK += self._gramian_by_rows(part[0], max_bytes).to(device)
                continue
            while remaining and self._shared[remaining[0]].numel() * width <= room:
                part.append(remaining.pop(0))
                room -= self._shared[part[-1]].numel() * width
            first = len(self._shared) - len(remaining) - len(part)
            blocks = self._rows(part, range(self.num_tasks))
            for block in team.sum_part(first, blocks, [self._shared[node].numel() for node in part]):
                if block is not None:
                    gramian_KK += gramian(block).to(device)
        return gramian_KK

    def _gramian_by_rows(self, node: Node, max_bytes: int) -> Tensor:
        """One parameter's Gramian [K, K]: some tasks' rows are held, the later tasks' pass by, a task at a time."""
        tensor = self._shared[node]
        held = max(2, max_bytes // (tensor.numel() * torch.finfo(self.dtype).bits // 8)) - 1
        gramian_KK = torch.zeros(self.num_tasks, self.num_tasks, dtype=self.dtype, device=tensor.device)
        for start in range(0, self.num_tasks, held):
            tasks = range(start, min(start + held, self.num_tasks))
            (rows,) = self._rows([node], tasks)
            if rows is None:
                continue
            here = slice(tasks.start, tasks.stop)
            gramian_KK[here, here] = gramian(rows)
            for task in range(tasks.stop, self.num_tasks):
                (row,) = self._rows([node], [task])
                if row is not None:
                    gramian_KK[here, task] = gramian_KK[task, here] = rows @ row[0]
        return gramian_KK

    def _rows(self, nodes: Sequence[Node], tasks: Sequence[int]) -> list[Block]:
        """Some tasks' rows of some shared parameters; the graph stays."""
        leaves = set(self._cut.trunk_leaves)
        pieces = self._through_trunk([node for node in nodes if node in leaves], last=False, only=tasks)
        places = {task: row for row, task in enumerate(tasks)}
        blocks = []
        for node in nodes:
            renamed = []
            for numbers, grad in pieces.pop(node, []) + self._direct.get(node, []):
                kept = [row for row, task in enumerate(numbers) if task in places]
                if kept:
                    part = grad if len(kept) == len(numbers) else grad[kept]
                    renamed.append(([places[numbers[row]] for row in kept], part))
            blocks.append(self._block(renamed, len(tasks)))
        return blocks

    def combined(self, weights_K: Tensor) -> Blocks:
        """`weights @ jacobian` as one row, by one plain pass through the trunk; after `gramian`; frees the graph."""
        edges = list({edge: None for cotangents in self._cotangents for edge in cotangents})
        sums = [self._weighted_cotangent(edge, weights_K) for edge in edges]
        leaves = [node for node in self._cut.trunk_leaves if node in self._shared]
        through_trunk = gradients(edges, sums, [(node, 0) for node in leaves], retain=self._cut.nested)
        found = dict(zip(leaves, through_trunk, strict=True))
        row: list[Block] = []
        for node in self._shared:
            through = found.get(node)
            passed = None if through is None else self._block([([0], through[None])], 1)
            row.append(added(passed, self._weighted_direct(node, weights_K)))
        self._release()
        return Blocks(row, self.shared_sizes)

    def _weighted_direct(self, node: Node, weights_K: Tensor) -> Block:
        """`weights @ jacobian`, one row, of what the heads say of a shared parameter themselves."""
        direct = self._block(self._direct.get(node, []))
        return None if direct is None else (weights_K.to(self.dtype) @ direct)[None]

    def _weighted_cotangent(self, edge: Edge, weights_K: Tensor) -> Tensor:
        tasks = [task for task, cotangents in enumerate(self._cotangents) if edge in cotangents]
        stacked = torch.stack([self._cotangents[task][edge] for task in tasks])
        weights = torch.stack([weights_K[task] for task in tasks]).to(stacked.device, stacked.dtype)
        total: Tensor = torch.tensordot(weights, stacked, 1)
        return total

    def _find_cut(self) -> Cut:
        return cut(self._graph, self._wanted.keys())

    def _run_heads(self) -> None:
        """Every loss to the frontier, and to the parameters that its head uses."""
        self._cut = self._find_cut()
        seeds = [self._seed(task) for task in range(self.num_tasks)]
        self._cotangents, by_leaf = pass_heads(self._graph, self._cut, seeds, self._shared, gradients, self._fast)
        self._direct = {node: by_leaf[node] for node in self._shared if node in by_leaf}
        for own, found in zip(self._own, self.own_gradients, strict=True):
            found += [(own[node], grad[0]) for node in own if node in by_leaf for _, grad in by_leaf[node]]

    def _through_trunk(
        self, leaves: Sequence[Node], last: bool, only: Sequence[int] | None = None
    ) -> dict[Node, list[Piece]]:
        """All tasks, or only some, from the frontier to the leaves; tasks that begin at the same edges go together."""
        groups: dict[tuple[Edge, ...], list[int]] = {}
        for task in range(self.num_tasks) if only is None else only:
            groups.setdefault(tuple(self._cotangents[task]), []).append(task)
        chunks: list[tuple[TrunkBackward, list[int]]] = []
        for edges, tasks in groups.items():
            if edges:
                trunk = TrunkBackward(self._graph, edges, leaves, gradients, self._fast and self.num_tasks > 1)
                size = self._chunk_size or (TASKS_AT_ONCE if trunk.convolutions else self.num_tasks)
                chunks += [(trunk, tasks[start : start + size]) for start in range(0, len(tasks), size)]
        if last and chunks and chunks[-1][0].is_tangled:  # one task by autograd alone, which frees the graph
            trunk, tasks = chunks.pop()
            chunks += [(trunk, part) for part in (tasks[:-1], tasks[-1:]) if part]
        pieces: dict[Node, list[Piece]] = {node: [] for node in leaves}
        filters: dict[Node, Tensor] = {}
        if only is None and len(groups) == 1 and len(chunks) > 1 and chunks[0][0].convolutions:
            # One allocation for all chunks: pieces of them would have to be put together, at the price of a copy.
            for node in chunks[0][0].filters & self._shared.keys():
                like = node.variable
                filters[node] = like.new_empty(self.num_tasks, *like.shape)
                pieces[node].append((list(range(self.num_tasks)), filters[node]))
        for number, (trunk, tasks) in enumerate(chunks):
            edges = trunk.begin
            retain = not (last and number == len(chunks) - 1)
            columns = [[self._cotangents[task][edge] for task in tasks] for edge in edges]
            if trunk.convolutions and (retain or not trunk.is_tangled):
                into = {node: rows[tasks[0] : tasks[0] + len(tasks)] for node, rows in filters.items()}
                by_leaf, _ = trunk.run(columns, into, retain)
                found = [by_leaf.get(node) for node in leaves]
            elif len(tasks) == 1:
                found = gradients(edges, [column[0] for column in columns], [(node, 0) for node in leaves], retain)
                found = [None if grad is None else grad[None] for grad in found]
                for node, rows in filters.items():
                    place = leaves.index(node)
                    grad, found[place] = found[place], None
                    rows[tasks[0]] = 0 if grad is None else grad[0]
            else:
                stacked = [torch.stack(column) for column in columns]
                found = gradients(edges, stacked, [(node, 0) for node in leaves], retain, batch=len(tasks))
            for node, grad in zip(leaves, found, strict=True):
                if grad is None:
                    continue
                if node in self._shared:
                    pieces[node].append((tasks, grad))
                for row, task in enumerate(tasks):
                    if node in self._own[task]:
                        self.own_gradients[task].append((self._own[task][node], grad[row]))
        return pieces

    def _seed(self, task: int) -> Tensor:
        """The gradient of a loss by itself."""
        node, number = self._graph.roots[task]
        if is_leaf(node):
            like = node.variable
            one = torch.ones_like(like)
        else:
            meta = node._input_metadata[number]
            one = torch.ones(meta.shape, dtype=meta.dtype, device=meta.device)
        return one if self._scale is None else (one * self._scale.to(one.device)).to(one.dtype)

    def _block(self, pieces: list[Piece], rows: int | None = None) -> Block:
        """The rows [K, n] of one parameter, unscaled, in the Jacobian's dtype."""
        if not pieces:
            return None
        rows = rows or self.num_tasks
        tasks, first = pieces[0]
        if len(pieces) == 1 and tasks == list(range(rows)):
            block = first.reshape(rows, -1).to(self.dtype)
        elif [task for tasks, _ in pieces for task in tasks] == list(range(rows)):
            block = torch.cat([grad.flatten(1) if grad.ndim > 1 else grad[:, None] for _, grad in pieces]).to(
                self.dtype
            )
        else:
            block = torch.zeros(rows, first[0].numel(), dtype=self.dtype, device=first.device)
            for tasks, grad in pieces:
                for row, task in enumerate(tasks):
                    block[task] += grad[row].reshape(-1)
        return block if self._scale is None else block / self._scale.to(block.device, self.dtype)

    def _release(self) -> None:
        """Frees what a nested graph still holds: a pass without a gradient computes nothing."""
        if not self._cut.nested:
            return
        handles = [node.register_prehook(lambda grads: (None,) * len(grads)) for node, _ in self._graph.roots]
        try:
            seeds = [self._seed(task) for task in range(self.num_tasks)]
            gradients(self._graph.roots, seeds, [(node, 0) for node in self._wanted], retain=False)
        finally:
            for handle in handles:
                handle.remove()
