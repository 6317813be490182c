"""The losses' graph: which parameters each task's loss reaches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from mtrl_surgery.methods.config import MethodError

Edge = tuple[Node, int]


@dataclass
class Reached:
    """The leaf tensors that require a gradient and that some loss reaches.

    Attributes:
        tasks: Leaf -> bits of the tasks that reach it. Tensors are keys by identity.
        edges: Edges at which the walk stopped -> bits of the tasks that reach them.
        order: The nodes on the way, each behind those that use its output.
    """

    tasks: dict[Tensor, int]
    edges: dict[Edge, int]
    order: dict[Node, int]


def is_shared(tasks: int) -> bool:
    """Whether the bits name two tasks or more."""
    return tasks & (tasks - 1) != 0


def edge_of(tensor: Tensor) -> Edge:
    """The edge that stands for a tensor that requires a gradient."""
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def given_losses(losses: Any, num_tasks: int) -> dict[int, Tensor]:
    """The losses of the tasks that have one, by task.

    Args:
        losses: One scalar a task, None where a task is missing; or a tensor [K].
        num_tasks: K.

    Raises:
        MethodError: for another number of losses, one that is no scalar or needs no gradient, or none at all.
    """
    if isinstance(losses, Tensor) and losses.ndim != 1:
        raise MethodError(f"losses has shape {tuple(losses.shape)}: give a list of {num_tasks} scalars or shape [K]")
    if not isinstance(losses, Iterable) or isinstance(losses, Mapping | str):
        raise MethodError(f"losses is a {type(losses).__name__}: give a list of {num_tasks} scalars, or a tensor [K]")
    given = list(losses.unbind() if isinstance(losses, Tensor) else losses)
    if len(given) != num_tasks:
        raise MethodError(f"{len(given)} losses for num_tasks={num_tasks}: give None for a task that is missing")
    found = {}
    for task, loss in enumerate(given):
        if loss is None:
            continue
        if not isinstance(loss, Tensor):
            raise MethodError(f"the loss of task {task} is a {type(loss).__name__}: give a tensor, or None")
        if loss.numel() != 1:
            raise MethodError(f"the loss of task {task} has shape {tuple(loss.shape)}, expected a scalar")
        if not loss.requires_grad:
            raise MethodError(f"the loss of task {task} requires no gradient: give None for a task that is missing")
        if loss.is_complex():
            raise MethodError(f"the loss of task {task} is complex: a loss must be a real number")
        found[task] = loss
    if not found:
        raise MethodError("no task has a loss in this batch")
    return found


def edges_below(node: Node) -> list[Edge]:
    """The edges to which a node passes gradients on."""
    return [(child, output) for child, output in node.next_functions if child is not None]


def walk(
    starts: Sequence[Edge], stops: Collection[Edge] = (), below: Callable[[Node], list[Edge]] = edges_below
) -> Reached:
    """Follows the gradient from every start (a task each) down to the leaves, or to `stops`."""
    children: dict[Node, list[Edge]] = {}
    stopped = dict.fromkeys(stops, 0)
    waiting = [start[0] for start in starts if start not in stopped]
    consumers: dict[Node, int] = dict.fromkeys(waiting, 0)
    while waiting:
        node = waiting.pop()
        if node in children:
            continue
        children[node] = edges = below(node)
        for edge in edges:
            if edge not in stopped:
                consumers[edge[0]] = consumers.get(edge[0], 0) + 1
                waiting.append(edge[0])
    tasks = dict.fromkeys(children, 0)
    for task, start in enumerate(starts):
        if start in stopped:
            stopped[start] |= 1 << task
        else:
            tasks[start[0]] |= 1 << task
    leaves: dict[Tensor, int] = {}
    order: dict[Node, int] = {}
    ready = [node for node in children if consumers[node] == 0]
    while ready:
        node = ready.pop()
        order[node] = tasks[node]
        if not children[node] and (leaf := getattr(node, "variable", None)) is not None:
            leaves[leaf] = leaves.get(leaf, 0) | tasks[node]
        for edge in children[node]:
            if edge in stopped:
                stopped[edge] |= tasks[node]
                continue
            child = edge[0]
            tasks[child] |= tasks[node]
            consumers[child] -= 1
            if consumers[child] == 0:
                ready.append(child)
    return Reached(leaves, {edge: bits for edge, bits in stopped.items() if bits}, order)


def starts_of(losses: Iterable[Tensor]) -> list[Edge]:
    """The edges from which each loss's own graph begins.

    A loss that was stacked with the others, and perhaps taken out of the stack by `unbind`, begins before the stack:
    behind it every task seems to reach everything.
    """
    return [_before_stack(edge_of(loss)) for loss in losses]


def _before_stack(edge: Edge) -> Edge:
    node, number = edge
    if node.name() != "UnbindBackward0":
        return edge
    (stack, _), *_ = node.next_functions
    # A loss is one number, so it came out of a vector, and a stack that is a vector is one of numbers.
    inputs = stack.next_functions if stack is not None and stack.name() == "StackBackward0" else ()
    before, output = inputs[number] if number < len(inputs) else (None, 0)
    return (before, output) if before is not None else edge


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor], retain: bool = False
) -> list[Tensor | None]:
    """The vector-Jacobian product by each input; None where no output reaches it."""
    if not outputs or not inputs:
        return [None] * len(inputs)
    return list(torch.autograd.grad(outputs, inputs, cotangents, retain_graph=retain, allow_unused=True))


def check_plain(parameter: Tensor) -> None:
    """Refuse a parameter whose gradient is no vector of real numbers.

    Raises:
        MethodError: for a complex parameter.
    """
    if parameter.is_complex():
        raise MethodError(
            f"a shared parameter of shape {tuple(parameter.shape)} is complex: methods compare real gradients; keep it "
            "as real and imaginary parts (torch.view_as_real), or give it to a task"
        )


def dense(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient itself.

    Raises:
        MethodError: where it is sparse.
    """
    if gradient.layout is not torch.strided:
        raise MethodError(
            f"the gradient of a shared parameter of shape {tuple(parameter.shape)} is sparse: make it dense "
            "(nn.Embedding(..., sparse=False))"
        )
    return gradient


def is_parameter(leaf: Tensor) -> bool:
    """Whether a leaf of the graph is a model's parameter and no input."""
    return isinstance(leaf, nn.Parameter)
