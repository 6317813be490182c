"""What the autograd graph says about a multi-task batch: who reaches which parameter, and where the tasks meet.

A graph is walked once, in Python, a microsecond or two a node. An *edge* (node, output number) stands for the tensor
that the node made; the gradient of a leaf tensor ends in its `AccumulateGrad` node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from mtrl_surgery.methods.config import MethodError

Node: TypeAlias = Any
"""A node of the autograd graph; torch's own class for it is abstract and does not know all of its attributes."""
Edge: TypeAlias = tuple[Node, int]


@dataclass
class Walk:
    """The nodes that were reached, each before those that its gradient flows on to.

    Attributes:
        children: Node -> the edges that its gradient flows on to, in topological order of the nodes.
        tasks: Node -> bits of the tasks that reach it.
        stopped: Edges at which the walk ended -> bits of the tasks that reach them.
        roots: The edges it began at, one a task.
    """

    children: dict[Node, list[Edge]]
    tasks: dict[Node, int]
    stopped: dict[Edge, int]
    roots: list[Edge]

    @cached_property
    def leaves(self) -> dict[Node, int]:
        """The nodes of the leaf tensors -> bits of the tasks that reach them."""
        return {node: self.tasks[node] for node in self.children if is_leaf(node)}


@dataclass
class Cut:
    """Where each task's own part of the graph (its head) ends.

    Attributes:
        edges_by_task: The edges to the trunk, or to a wanted parameter, that leave the head.
        trunk_leaves: The wanted parameters' nodes that are reached through the trunk.
        nested: Whether one of those edges lies behind another.
    """

    edges_by_task: list[list[Edge]]
    trunk_leaves: list[Node]
    nested: bool


def is_leaf(node: Node) -> bool:
    """Whether a gradient that arrives here is a leaf tensor's."""
    return type(node).__name__ == "AccumulateGrad"


def is_shared(tasks: int) -> bool:
    """Whether the bits name two tasks or more."""
    return tasks & (tasks - 1) != 0


def edge_of(tensor: Tensor) -> Edge:
    """The edge that stands for a tensor that requires a gradient."""
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def loss_edges(losses: Sequence[Tensor | None] | Tensor, num_tasks: int) -> list[tuple[int, Edge, Tensor]]:
    """The tasks that have a loss: (task, its edge, its value).

    Losses that were stacked, and perhaps taken apart again, are traced to before the stack: behind it every task
    seems to reach everything.

    Args:
        losses: One scalar a task, None where a task is missing; or a tensor [K].
        num_tasks: K.

    Raises:
        MethodError: for another number of losses, one that is no scalar or needs no gradient, or none at all.
    """
    if isinstance(losses, Tensor) and losses.ndim != 1:
        raise MethodError(f"losses has shape {tuple(losses.shape)}: give a list of {num_tasks} scalars or shape [K]")
    if len(losses) != num_tasks:
        raise MethodError(f"{len(losses)} losses for num_tasks={num_tasks}: give None for a task that is missing")
    found = []
    for task, loss in enumerate(losses.unbind() if isinstance(losses, Tensor) else losses):
        if loss is None:
            continue
        if loss.numel() != 1:
            raise MethodError(f"the loss of task {task} has shape {tuple(loss.shape)}, expected a scalar")
        edge = _before_stack(edge_of(loss)) if loss.requires_grad else (None, 0)
        if edge[0] is None:
            raise MethodError(f"the loss of task {task} requires no gradient: give None for a task that is missing")
        found.append((task, edge, loss.detach().reshape(())))
    if not found:
        raise MethodError("no task has a loss in this batch")
    return found


def _before_stack(edge: Edge) -> Edge:
    node, number = edge
    name = type(node).__name__
    if name == "SelectBackward0":
        number = node._saved_index
    elif name != "UnbindBackward0":
        return edge
    (stack, _), *others = node.next_functions
    inputs = stack.next_functions if type(stack).__name__ == "StackBackward0" else ()
    return inputs[number] if not others and number < len(inputs) and stack._saved_dim == 0 else edge


def walk(roots: Sequence[Edge], stops: Collection[Edge] = ()) -> Walk:
    """Follows the gradient from every root (a task each) down to the leaves, or to `stops`."""
    children: dict[Node, list[Edge]] = {}
    stopped = dict.fromkeys(stops, 0)
    waiting = [root[0] for root in roots if root not in stopped]
    consumers: dict[Node, int] = dict.fromkeys(waiting, 0)
    while waiting:
        node = waiting.pop()
        if node in children:
            continue
        children[node] = edges = [edge for edge in node.next_functions if edge[0] is not None]
        for edge in edges:
            if edge not in stopped:
                consumers[edge[0]] = consumers.get(edge[0], 0) + 1
                waiting.append(edge[0])
    tasks = dict.fromkeys(children, 0)
    for task, root in enumerate(roots):
        if root in stopped:
            stopped[root] |= 1 << task
        else:
            tasks[root[0]] |= 1 << task
    ordered: dict[Node, list[Edge]] = {}
    ready = [node for node in children if consumers[node] == 0]
    while ready:
        node = ready.pop()
        ordered[node] = children[node]
        for edge in children[node]:
            if edge in stopped:
                stopped[edge] |= tasks[node]
                continue
            child = edge[0]
            tasks[child] |= tasks[node]
            consumers[child] -= 1
            if consumers[child] == 0:
                ready.append(child)
    return Walk(ordered, tasks, {edge: bits for edge, bits in stopped.items() if bits}, list(roots))


def cut(graph: Walk, wanted: Collection[Node]) -> Cut:
    """Parts the heads, which one task reaches, from the trunk, which several do.

    Args:
        graph: The tasks' walk.
        wanted: The nodes of the parameters whose gradients are sought.
    """
    leads: set[Node] = set()
    for node in reversed(graph.children):
        if node in wanted or any(child in leads for child, _ in graph.children[node]):
            leads.add(node)
    trunk = {node for node in leads if is_shared(graph.tasks[node]) and not is_leaf(node)}
    targets = trunk | (leads & set(wanted))
    by_task: list[dict[Edge, None]] = [{root: None} if root[0] in targets else {} for root in graph.roots]
    in_trunk: dict[Node, None] = {}
    for node, edges in graph.children.items():
        for edge in edges:
            if edge[0] not in targets:
                continue
            if node not in trunk:
                by_task[graph.tasks[node].bit_length() - 1][edge] = None
            elif is_leaf(edge[0]):
                in_trunk[edge[0]] = None
    frontier = {node for edges in by_task for node, _ in edges}
    return Cut([list(edges) for edges in by_task], list(in_trunk), is_nested(graph, frontier))


def is_nested(graph: Walk, nodes: Iterable[Node]) -> bool:
    """Whether one of the nodes is reached through another of them."""
    among, below = set(nodes), set[Node]()
    for node, edges in graph.children.items():
        if node in among or node in below:
            below.update(child for child, _ in edges)
    return not among.isdisjoint(below)
