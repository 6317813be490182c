"""The backward pass of several tasks through a part of the graph, with convolutions of our own; autograd does the rest.

The part is cut at its convolutions, and where several edges meet. What lies between two cuts autograd passes once for
each task, and the gradients that arrive at a cut are added up there until all have come. So every node is passed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mtrl_surgery.jacobian import shared_pointwise, shared_winograd
from mtrl_surgery.jacobian.shared_graph import Edge, Node, Walk, is_leaf

Gradients = Callable[[Sequence[Edge], Sequence[Tensor], Sequence[Edge], bool], list[Tensor | None]]
"""Products of cotangents with a Jacobian, from edges to edges; and whether the graph is kept."""


class TrunkBackward:
    """A part of the graph, for tasks that begin at the same edges: the trunk, or one task's head.

    Args:
        graph: The walk from the losses.
        begin: The edges where it begins: where the heads end, or a loss.
        leaves: The parameters' nodes whose gradients are wanted.
        gradients: What passes the rest.
        take_over: Whether any convolution is to be.
        ends: Edges that are not passed, but whose gradients are wanted: a head's to the trunk.
        alone: Whether one task only will go through it.

    Attributes:
        begin: As given.
        convolutions: The nodes that are taken over.
        is_tangled: Whether a cut may lie behind another with nothing but autograd's nodes between on one way; then the
            graph must be kept, since a pass that ends at the two would free what the first one saved.
    """

    def __init__(
        self,
        graph: Walk,
        begin: Sequence[Edge],
        leaves: Sequence[Node],
        gradients: Gradients,
        take_over: bool,
        ends: Sequence[Edge] = (),
        alone: bool = False,
    ) -> None:
        self.begin, self._ends = tuple(begin), dict.fromkeys(ends)
        end_nodes = {node for node, _ in ends}
        self._gradients, self._leads = gradients, _leading(graph, [*leaves, *end_nodes])
        self._order: list[Node] = []
        arriving: dict[Node, int] = {}
        behind = {node for node, _ in begin}
        for node in graph.children:
            if node not in behind or node not in self._leads or node in end_nodes:
                continue
            self._order.append(node)
            for child, _ in self._children(node):
                behind.add(child)
                arriving[child] = arriving.get(child, 0) + 1
        for node, _ in begin:
            arriving[node] = arriving.get(node, 0) + 1
        self.convolutions = {node for node in self._order if take_over and is_ours(node, alone)}
        meetings = {node for node, count in arriving.items() if count > 1}
        self._stops = self.convolutions | end_nodes | {node for node in meetings if not is_leaf(node)}
        self.is_tangled = bool(self.convolutions and meetings)
        self._open: Node | None = None

    @property
    def filters(self) -> set[Node]:
        """The leaves that are one convolution's filter and nothing else."""
        users: dict[Node, list[Node]] = {}
        for node in self._order:
            for child, _ in self._children(node):
                users.setdefault(child, []).append(node)
        begin = {node for node, _ in self.begin}
        return {
            node.next_functions[1][0]
            for node in self.convolutions
            if is_leaf(child := node.next_functions[1][0]) and users.get(child) == [node] and child not in begin
        }

    def run(
        self, columns: Sequence[Sequence[Tensor]], into: Mapping[Node, Tensor] | None = None, retain: bool = True
    ) -> tuple[dict[Node, Tensor], dict[Edge, list[Tensor]]]:
        """All tasks' gradients by the leaves, a row a task, and by the ends; none for those that are not reached.

        Args:
            columns: For each edge of the beginning, the tasks' cotangents.
            into: Where to put the rows of some of `filters`, which are not returned then.
            retain: Whether the graph is kept.
        """
        self._tasks, self._into, self._retain = len(columns[0]), dict(into or {}), retain
        self._waiting: dict[Edge, list[Tensor]] = {}
        self._found: dict[Node, Tensor] = {}
        with self._stopping():
            starts = dict(zip(self.begin, columns, strict=True))
            for edge in [edge for edge in starts if edge[0] in self._stops]:
                self._arrive(edge, list(starts.pop(edge)))
            if starts:
                self._pass(list(starts), list(starts.values()))
            for node in self._order:
                if node not in self._stops:  # the ends are not in this order: what arrived at them stays
                    continue
                edges = [edge for edge in self._waiting if edge[0] is node]
                cotangents = [self._waiting.pop(edge) for edge in edges]
                if node in self.convolutions and edges:
                    self._convolve(node, cotangents[0])
                elif edges:
                    self._open = node
                    self._pass(edges, cotangents)
                    self._open = None
        for rows in self._into.values():  # no gradient came so far
            rows.zero_()
        found, self._found = self._found, {}
        at_ends, self._waiting = self._waiting, {}
        return found, at_ends

    def _children(self, node: Node) -> list[Edge]:
        return [edge for edge in node.next_functions if edge[0] in self._leads]

    def _targets(self, edges: Sequence[Edge]) -> list[Edge]:
        """The stops' edges and the leaves that are reached without passing a stop."""
        found: dict[Edge, None] = {}
        waiting, seen = [node for node, _ in edges], set[Node]()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            for edge in self._children(node):
                if edge[0] in self._stops or is_leaf(edge[0]):
                    found[edge] = None
                else:
                    waiting.append(edge[0])
        return list(found)

    def _pass(self, edges: Sequence[Edge], cotangents: Sequence[Sequence[Tensor]]) -> None:
        """By autograd from some edges to the next stops, a task after the other."""
        leaves = [edge for edge in edges if is_leaf(edge[0])]
        for edge in leaves:
            self._arrive(edge, list(cotangents[edges.index(edge)]))
        rest = [place for place, edge in enumerate(edges) if edge not in leaves]
        begin = [edges[place] for place in rest]
        targets = self._targets(begin)
        if not targets:
            return
        by_target: list[list[Tensor | None]] = [[] for _ in targets]
        for task in range(self._tasks):
            retain = self._retain or task < self._tasks - 1
            found = self._gradients(begin, [cotangents[place][task] for place in rest], targets, retain)
            for grads, grad in zip(by_target, found, strict=True):
                grads.append(grad)
        for edge, grads in zip(targets, by_target, strict=True):
            like = next((grad for grad in grads if grad is not None), None)
            if like is not None:
                self._arrive(edge, [torch.zeros_like(like) if grad is None else grad for grad in grads])

    def _arrive(self, edge: Edge, grads: list[Tensor]) -> None:
        if is_leaf(edge[0]):
            rows = torch.stack(grads)
            self._found[edge[0]] = self._found[edge[0]] + rows if edge[0] in self._found else rows
        elif edge in self._waiting:
            pairs = zip(self._waiting[edge], grads, strict=True)
            self._waiting[edge] = [before + grad for before, grad in pairs]
        else:
            self._waiting[edge] = grads

    def _convolve(self, node: Node, cotangents: list[Tensor]) -> None:
        wanted = [edge if edge[0] in self._leads else None for edge in node.next_functions]
        by_input, by_filter, by_bias = (*wanted, None)[:3]
        ours = shared_pointwise.Pointwise if shared_pointwise.is_eligible(node) else shared_winograd.Convolution
        convolution = ours(node)
        filters = given = None
        if by_filter is not None:
            given = self._into.pop(by_filter[0], None)
            filters = given
            if filters is None:
                filters = cotangents[0].new_empty(self._tasks, *node._saved_weight.shape)
        biases = [grad.sum((0, 2, 3)) for grad in cotangents] if by_bias is not None else []
        inputs = convolution.backward(cotangents, by_input is not None, filters)
        nothing = cotangents[0].new_zeros(()).expand(cotangents[0].shape)
        cotangents.clear()  # lets go of them
        if not self._retain:  # frees what the node saved: its hook takes the gradient away, so nothing is computed
            self._gradients([(node, 0)], [nothing], [node.next_functions[1]], False)
        if by_bias is not None:
            self._arrive_or_pass(by_bias, biases)
        if by_filter is not None and filters is not None and given is None:
            if is_leaf(by_filter[0]) and by_filter[0] not in self._found:
                self._found[by_filter[0]] = filters
            else:
                self._arrive_or_pass(by_filter, list(filters))
        if by_input is not None:
            self._arrive_or_pass(by_input, inputs)

    def _arrive_or_pass(self, edge: Edge, grads: list[Tensor]) -> None:
        if edge[0] in self._stops or is_leaf(edge[0]):
            self._arrive(edge, grads)
        else:
            self._pass([edge], [grads])

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Gradients are captured at the stops and go no further."""

        def hook(node: Node) -> Callable[[tuple[Tensor, ...]], tuple[Tensor | None, ...] | None]:
            return lambda grads: None if self._open is node else (None,) * len(grads)

        handles = [node.register_prehook(hook(node)) for node in self._stops]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def is_ours(node: Node, alone: bool = False) -> bool:
    """Whether a node of the graph is a convolution that is passed faster here than by autograd.

    Args:
        node: Any.
        alone: Whether one task only goes through it.
    """
    return shared_winograd.is_eligible(node, alone) or shared_pointwise.is_eligible(node)


def _leading(graph: Walk, leaves: Sequence[Node]) -> set[Node]:
    """The nodes from which one of the leaves is reached."""
    leads = set(leaves)
    for node in reversed(graph.children):
        if any(child in leads for child, _ in graph.children[node]):
            leads.add(node)
    return leads
