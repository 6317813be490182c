"""The losses' own parts of the graph: every task from its loss to where the trunk begins, with fast convolutions."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Piece
from mtrl_surgery.jacobian.shared_graph import Cut, Edge, Node, Walk, is_leaf, is_shared
from mtrl_surgery.jacobian.shared_trunk import Gradients, TrunkBackward, is_ours


def pass_heads(
    graph: Walk, cut: Cut, seeds: Sequence[Tensor], shared: Collection[Node], gradients: Gradients, fast: bool
) -> tuple[list[dict[Edge, Tensor]], dict[Node, list[Piece]]]:
    """Every task's gradients by the edges that leave its head.

    Args:
        graph: The walk from the losses.
        cut: Where the heads end.
        seeds: The gradient of each loss by itself.
        shared: Parameters whose rows of all tasks are kept together.
        gradients: What passes what is not taken over.
        fast: Whether convolutions may be.

    Returns:
        Each task's gradients by the trunk's edges, and by the parameters that the heads use.
    """
    heads = _taken_over(graph, cut, gradients) if fast else {}
    # One allocation for all tasks, where a filter is nothing else to any of them: rows would have to be copied.
    by_filter: dict[Node, tuple[list[int], Tensor]] = {}
    for node in shared:
        tasks = [task for task, head in heads.items() if node in head.filters]
        if tasks:
            by_filter[node] = tasks, node.variable.new_empty(len(tasks), *node.variable.shape)
    pieces: dict[Node, list[Piece]] = {node: [(tasks, rows)] for node, (tasks, rows) in by_filter.items()}
    cotangents: list[dict[Edge, Tensor]] = []
    with _stop_at_frontier(cut):
        for task, (edges, root, seed) in enumerate(zip(cut.edges_by_task, graph.roots, seeds, strict=True)):
            arrived: dict[Edge, Tensor | None] = {root: seed}
            if task in heads:
                into = {
                    node: rows[tasks.index(task)][None] for node, (tasks, rows) in by_filter.items() if task in tasks
                }
                by_leaf, by_end = heads[task].run([[seed]], into, retain=cut.nested)
                arrived = {(node, 0): rows[0] for node, rows in by_leaf.items()}
                arrived |= {edge: grad for edge, (grad,) in by_end.items()}
            elif edges != [root]:
                arrived = dict(zip(edges, gradients([root], [seed], edges, cut.nested), strict=True))
            cotangents.append({})
            for edge in edges:
                grad = arrived.get(edge)
                if grad is None:
                    continue
                if is_leaf(edge[0]):
                    pieces.setdefault(edge[0], []).append(([task], grad[None]))
                else:
                    cotangents[-1][edge] = grad
    return cotangents, pieces


def _taken_over(graph: Walk, cut: Cut, gradients: Gradients) -> dict[int, TrunkBackward]:
    """The heads with convolutions of our own, by task; where the graph must be freed, those that can do it."""
    heads: dict[int, TrunkBackward] = {}
    mine = {bits for node, bits in graph.tasks.items() if not is_shared(bits) and is_ours(node, alone=True)}
    for task, edges in enumerate(cut.edges_by_task):
        if 1 << task in mine:
            leaves, ends = (
                [node for node, _ in edges if is_leaf(node)],
                [edge for edge in edges if not is_leaf(edge[0])],
            )
            head = TrunkBackward(graph, [graph.roots[task]], leaves, gradients, True, ends, alone=True)
            if head.convolutions and (cut.nested or not head.is_tangled):
                heads[task] = head
    return heads


@contextlib.contextmanager
def _stop_at_frontier(cut: Cut) -> Iterator[None]:
    """Where the frontier's edges lie behind each other, keeps a head's gradient from flowing from one to the next.

    The gradient is captured before the hook takes it away; operations on no gradient cost nothing.
    """
    nodes = {node for edges in cut.edges_by_task for node, _ in edges if not is_leaf(node)} if cut.nested else ()
    handles = [node.register_prehook(lambda grads: (None,) * len(grads)) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
