"""Per-task gradients of layers whose rows know their task: one backward pass for all tasks.

Where each row of a batch belongs to one task, the pass of the summed losses brings every row the cotangent that its
own task's pass would bring, and a layer's per-task gradients are one grouped product (`layer_rules`). Which layers may
do so is read off the graph, and compared now and then with autograd's own gradient of randomly weighted losses.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from mtrl_surgery.jacobian.layer_calls import call_of, is_output, mixes_rows, watch
from mtrl_surgery.jacobian.layer_rules import LayerCall
from mtrl_surgery.jacobian.shared_graph import Edge, edges_below, gradients, is_shared, walk

_NEAR, _MOST_NEAR = 1e5, 0.3
"""A check allows so many times the precision, and at most that much, relative to the norms of a parameter's rows."""
_LEAST, _MOST_LEAST = 100.0, 0.02
"""And beside, relative to all parameters: a bias before a normalisation has nothing but rounding errors."""


class RowGroups:
    """Rows in groups by task.

    Args:
        task_B: Of each row, its task, or -1 for none; on the CPU.
        num_tasks: K.
        device: Of the rows.
    """

    def __init__(self, task_B: Tensor, num_tasks: int, device: torch.device) -> None:
        counts_K = torch.bincount(task_B[task_B >= 0], minlength=num_tasks)
        self._shape = num_tasks, int(counts_K.max())
        order_B = task_B.argsort(stable=True)[len(task_B) - int(counts_K.sum()) :]
        filled_KN = torch.arange(self._shape[1]) < counts_K[:, None]
        in_order = len(order_B) == len(task_B) == filled_KN.sum() == filled_KN.numel() and bool(
            (task_B.diff() >= 0).all()
        )
        index_KN = torch.zeros(self._shape, dtype=torch.int64)
        index_KN[filled_KN] = order_B
        self._index = None if in_order else index_KN.flatten().to(device)
        self._empty_KN = None if filled_KN.all() else ~filled_KN.to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        """[B, ...] -> [K, N, ...]; a task with fewer rows than N has zeros behind them."""
        picked = rows if self._index is None else rows.index_select(0, self._index)
        grouped: Tensor = picked.unflatten(0, self._shape)
        if self._empty_KN is not None:
            grouped.masked_fill_(self._empty_KN.view(*self._shape, *(1,) * (rows.dim() - 1)), 0)
        return grouped


class WatchedModel:
    """A model whose layers leave notes in the graph, and the parameters for which the rules proved wrong.

    Args:
        model: It is watched from now on.
    """

    def __init__(self, model: nn.Module) -> None:
        watch(model)
        self.refused: set[int] = set()
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._batches = 0
        self._generator = torch.Generator().manual_seed(0)

    def due(self) -> bool:
        """Whether this batch is checked: the first, second, fourth, eighth, ..."""
        self._batches += 1
        return self._batches & (self._batches - 1) == 0

    def random_weights(self, num_tasks: int) -> Tensor:
        """Weights [K] for a check: gradients that agree for them agree for all weights, but for a chance of zero."""
        return torch.rand(num_tasks, generator=self._generator, dtype=torch.float64) + 0.5

    def refuse(self, parameters: Sequence[Tensor]) -> None:
        """From now on these have one pass a task."""
        self.refused |= {id(parameter) for parameter in parameters}
        names = ", ".join(self._names.get(id(parameter), "a parameter without a name") for parameter in parameters)
        warnings.warn(
            "Surgery: the losses of several tasks meet in the rows behind these parameters, or a hook changes their "
            f"gradients: {names}. They have one backward pass a task from now on, which is exact and slow",
            stacklevel=6,
        )


class RowPass:
    """One batch's backward pass for all tasks at once.

    Args:
        model: The watched one.
        task_B: Of each row of the batch, its task by its place among `losses`, or -1, on the CPU; None to find it.
        losses: One scalar a task, K of them.
        starts: Where their graphs begin.
        seeds: What each loss is multiplied with.
        dtype: Of the Jacobian.
    """

    def __init__(
        self,
        model: WatchedModel,
        task_B: Tensor | None,
        losses: Sequence[Tensor],
        starts: Sequence[Edge],
        seeds: Sequence[Tensor],
        dtype: torch.dtype,
    ) -> None:
        self._losses, self._seeds, self._model, self._dtype = losses, seeds, model, dtype
        reached = walk(starts, below=_edges_below)
        self._groups: dict[int, RowGroups] = {}
        if task_B is not None:
            self._groups[len(task_B)] = RowGroups(task_B, len(losses), losses[0].device)
        else:
            self._find_groups(_shared_outputs(starts, reached.order))
        mixed: set[Node] = set()
        self._calls: dict[Node, tuple[LayerCall, int | None]] = {}  # with the only task that reaches it, or None
        loose = {id(leaf) for leaf in reached.tasks}
        for node, bits in reached.order.items():
            if node in mixed or mixes_rows(node):
                mixed |= {child for child, _ in _edges_below(node)}
            if (call := call_of(node)) is None:
                continue
            if is_shared(bits) and (node in mixed or call.num_rows not in self._groups):
                loose |= {id(parameter) for parameter in call.named.values()}
            else:
                self._calls[node] = call, None if is_shared(bits) else bits.bit_length() - 1
        uses = Counter(id(parameter) for call, _ in self._calls.values() for parameter in call.named.values())
        self._uses = {key: count for key, count in uses.items() if key not in loose | model.refused}
        self._eps = 0.0  # of the least precise cotangent
        self._bottom = _without_others_below(self._calls, reached.order)

    def covers(self, parameter: Tensor) -> bool:
        """Whether every use of a parameter is by a layer whose rows know their task."""
        return id(parameter) in self._uses

    def check(self, parameters: Sequence[Tensor]) -> None:
        """If it is time, compares the rows of those parameters that are covered with autograd; waits for the device.

        What differs is covered no more.
        """
        covered = [parameter for parameter in parameters if self.covers(parameter)]
        if not covered or not self._model.due():
            return
        weights_K = self._model.random_weights(len(self._losses))
        seeds = [seed * weight.to(seed) for seed, weight in zip(self._seeds, weights_K, strict=True)]
        wanted = dict(zip(map(id, covered), gradients(self._losses, covered, seeds, retain=True), strict=True))
        found: dict[int, tuple[float, float]] = {}  # how far a parameter's gradient is off, and its rows' norms

        def compare(parameter: Tensor, block_KP: Tensor) -> None:
            expected, weights = wanted.pop(id(parameter)), weights_K.to(block_KP)
            off_P = weights @ block_KP - (0.0 if expected is None else expected.to(block_KP.dtype).flatten())
            found[id(parameter)] = float(off_P.norm()), float(weights @ block_KP.norm(dim=1))

        self.run(covered, compare, retain=True)
        found |= {key: (float(expected.norm()), 0.0) for key, expected in wanted.items() if expected is not None}
        whole = math.hypot(*(size for _, size in found.values()))
        near, least = min(_NEAR * self._eps, _MOST_NEAR), min(_LEAST * self._eps, _MOST_LEAST)
        wrong = [p for p in covered if id(p) in found and found[id(p)][0] > near * found[id(p)][1] + least * whole]
        if wrong:  # NaN is not
            self._model.refuse(wrong)
            self._uses = {key: count for key, count in self._uses.items() if key not in self._model.refused}

    def run(self, parameters: Sequence[Tensor], take: Callable[[Tensor, Tensor], None], retain: bool) -> None:
        """Makes the rows of parameters that are covered.

        Args:
            parameters: Which.
            take: Is given each parameter that a loss moves, with its rows [K, P], as soon as they are complete.
            retain: Whether the graph stays.
        """
        left = {id(parameter): self._uses[id(parameter)] for parameter in parameters}
        blocks: dict[int, Tensor] = {}

        def visit(node: Node, cotangents: Sequence[Tensor | None]) -> None:
            call, task = self._calls[node]
            asked = {name: parameter for name, parameter in call.named.items() if id(parameter) in left}
            found = {}
            if asked and cotangents[0] is not None:
                self._eps = max(self._eps, torch.finfo(cotangents[0].dtype).eps)
                group = _as_one_group if task is not None else self._groups[call.num_rows]
                found = call.gradients(asked, cotangents[0], group, self._dtype)
            for name, parameter in asked.items():
                if name in found:
                    self._add(blocks, parameter, found[name].flatten(1), task)
                left[id(parameter)] -= 1
                if not left[id(parameter)] and (block_KP := blocks.pop(id(parameter), None)) is not None:
                    take(parameter, block_KP)

        inner = [node for node in self._calls if node not in self._bottom]
        handles = [node.register_prehook(partial(visit, node)) for node in inner]
        try:
            ends = [GradientEdge(node, 0) for node in self._bottom]
            found = torch.autograd.grad(self._losses, ends, self._seeds, retain_graph=retain, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
        for node, cotangent in zip(self._bottom, found, strict=True):
            visit(node, [cotangent])
        for parameter in parameters:
            if (block_KP := blocks.pop(id(parameter), None)) is not None:  # a call that no gradient came to
                take(parameter, block_KP)

    def _add(self, blocks: dict[int, Tensor], parameter: Tensor, part: Tensor, task: int | None) -> None:
        """Adds the gradients [K, P] of all tasks, or [1, P] of one."""
        key = id(parameter)
        if task is not None:
            if key not in blocks:
                blocks[key] = part.new_zeros(len(self._losses), parameter.numel())
            blocks[key][task] += part[0]
        elif key in blocks:
            blocks[key] += part
        else:
            blocks[key] = part

    def _find_groups(self, outputs: Sequence[Edge]) -> None:
        """The task of each row of the model's outputs, where no row belongs to two; waits for the device."""
        touched: dict[int, Tensor] = {}
        ends = [GradientEdge(*edge) for edge in outputs]
        for task, (loss, seed) in enumerate(zip(self._losses, self._seeds, strict=True) if ends else ()):
            for grad in _gradients_at(loss, ends, seed):
                if grad is not None and grad.dim():
                    row_KB = touched.setdefault(
                        len(grad), grad.new_zeros(len(self._losses), len(grad), dtype=torch.bool)
                    )
                    row_KB[task] |= (grad.reshape(len(grad), -1) != 0).any(1)
        for rows, touched_KB in touched.items():
            count_B = touched_KB.sum(0)
            if bool((count_B <= 1).all()):
                task_B = torch.where(count_B == 0, -1, touched_KB.int().argmax(0)).cpu()
                self._groups[rows] = RowGroups(task_B, len(self._losses), touched_KB.device)


def _gradients_at(loss: Tensor, ends: Sequence[GradientEdge], seed: Tensor) -> Sequence[Tensor | None]:
    return torch.autograd.grad(loss, ends, seed, retain_graph=True, allow_unused=True)


def _as_one_group(rows: Tensor) -> Tensor:
    return rows[None]


def _edges_below(node: Node) -> list[Edge]:
    """As `edges_below`, without what a noted layer's own parameters add."""
    call = call_of(node)
    return edges_below(node) if call is None else call.edges


def _shared_outputs(starts: Sequence[Edge], order: dict[Node, int]) -> list[Edge]:
    """The model's outputs that several tasks reach."""
    bits: dict[Edge, int] = {}
    for node, tasks in order.items():
        for edge in _edges_below(node):
            if is_output(edge):
                bits[edge] = bits.get(edge, 0) | tasks
    return [edge for edge, tasks in bits.items() if is_shared(tasks)]


def _without_others_below(calls: Collection[Node], order: dict[Node, int]) -> list[Node]:
    """The calls from which no other one is reached."""
    leading: set[Node] = set()
    bottom = []
    for node in reversed(order):
        leads = any(child in leading for child, _ in _edges_below(node))
        if leads or node in calls:
            leading.add(node)
        if node in calls and not leads:
            bottom.append(node)
    return bottom
