"""Which parameters the tasks share and which are a task's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtrl_surgery.jacobian.shared_graph import Edge, Node, Walk, edge_of, is_shared, walk
from mtrl_surgery.methods.config import MethodError


@dataclass
class Roles:
    """The parameters of one model.

    Attributes:
        shared: Their order is that of the Jacobian's columns.
        own: A list for each of the K tasks.
    """

    shared: list[Tensor]
    own: list[list[Tensor]]


def given_shared(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters that require a gradient, each once.

    Raises:
        MethodError: for a tensor that is no leaf, or where none requires a gradient.
    """
    found = list({id(tensor): tensor for tensor in parameters if tensor.requires_grad}.values())
    if any(not tensor.is_leaf for tensor in found):
        raise MethodError("shared_parameters: a tensor in it is no parameter but was computed")
    if not found:
        raise MethodError("shared_parameters: none of them requires a gradient")
    return found


def given_own(parameters: Sequence[Iterable[Tensor]], num_tasks: int, shared: Iterable[Tensor]) -> list[list[Tensor]]:
    """The tasks' own parameters that require a gradient.

    Raises:
        MethodError: for another number of tasks, or a parameter that two lists claim.
    """
    own = [[tensor for tensor in group if tensor.requires_grad] for group in parameters]
    if len(own) != num_tasks:
        raise MethodError(f"task_parameters has {len(own)} lists for num_tasks={num_tasks}: give one a task")
    claimed = {id(tensor): "shared_parameters" for tensor in shared}
    for task, group in enumerate(own):
        name = f"task_parameters[{task}]"
        for tensor in group:
            other = claimed.setdefault(id(tensor), name)
            if other != name:
                raise MethodError(f"a parameter of shape {tuple(tensor.shape)} is both in {other} and in {name}")
    return own


def find_roles(
    heads: Walk,
    tasks: Sequence[int],
    num_tasks: int,
    shared: list[Tensor] | None,
    features: Sequence[Edge] | None,
    own: list[list[Tensor]] | None,
) -> Roles:
    """The roles that were not given, from who reaches what.

    Args:
        heads: The walk from the losses (down to the features where there are any).
        tasks: The walk's tasks, by number.
        num_tasks: K.
        shared: The shared parameters, where given; else those reached by two tasks or more (all, where K is 1); where
            there are features, first those reached through them, and last those that two tasks reach past them.
        features: The features' edges, where given.
        own: The tasks' own parameters, where given; else those reached by one task only.

    Raises:
        MethodError: if a parameter fits no role, or a role cannot be told since a task is missing.
    """
    if len(tasks) < num_tasks:
        missing = sorted(set(range(num_tasks)) - set(tasks))
        raise MethodError(
            f"the tasks {missing} are missing, so who shares what cannot be told from this batch: give "
            "shared_parameters and task_parameters, or begin with a batch that has every task"
        )
    reached = {leaf.variable: bits for leaf, bits in heads.leaves.items()}
    given = {id(tensor) for group in own or [] for tensor in group}
    if shared is None and features is not None:
        behind = [leaf.variable for leaf in walk(features).leaves]
        late = [leaf for leaf, bits in reached.items() if is_shared(bits)]
        shared = [leaf for leaf in dict.fromkeys([*behind, *late]) if id(leaf) not in given]
    elif shared is None:
        everyone = num_tasks == 1
        shared = [leaf for leaf, bits in reached.items() if (everyone or is_shared(bits)) and id(leaf) not in given]
    if own is None:
        own = [[] for _ in range(num_tasks)]
        known = {id(tensor) for tensor in shared}
        for leaf, bits in reached.items():
            if id(leaf) in known:
                continue
            if is_shared(bits):
                raise MethodError(
                    f"a parameter of shape {tuple(leaf.shape)} is reached by several tasks but is not in "
                    "shared_parameters: give task_parameters to leave it out"
                )
            own[tasks[bits.bit_length() - 1]].append(leaf)
    if not shared:
        raise MethodError("the tasks share no parameter: there is nothing to operate on")
    return Roles(shared, own)


def check_roles(roles: Roles, heads: Walk, tasks: Sequence[int]) -> None:
    """Whether roles found in an earlier batch still hold.

    Raises:
        MethodError: for a parameter that is new, or that a second task reaches now.
    """
    shared = {id(tensor) for tensor in roles.shared}
    owner = {id(tensor): task for task, group in enumerate(roles.own) for tensor in group}
    for leaf, bits in heads.leaves.items():
        tensor = leaf.variable
        if id(tensor) in shared:
            continue
        what = f"a parameter of shape {tuple(tensor.shape)}"
        if id(tensor) not in owner:
            raise MethodError(f"{what} was not reached in the first batch: give shared_parameters and task_parameters")
        if is_shared(bits) or tasks[bits.bit_length() - 1] != owner[id(tensor)]:
            raise MethodError(f"{what} was task {owner[id(tensor)]}'s own in the first batch and now is another's too")


def leaf_nodes(parameters: Iterable[Tensor], reached: Mapping[int, Node]) -> dict[Node, Tensor]:
    """The parameters by their node in the graph; `reached` knows the nodes of some by their id, which saves time."""
    return {reached.get(id(tensor)) or edge_of(tensor)[0]: tensor for tensor in parameters}


class RoleBook:
    """The roles that were found in the first batch hold for all later ones, and the columns keep their order.

    Attributes:
        layout: The shared parameters' shapes in the order of the columns; None before the first.
    """

    def __init__(self) -> None:
        self.layout: list[list[int]] | None = None
        self._found: Roles | None = None

    def roles(
        self,
        heads: Walk,
        tasks: Sequence[int],
        num_tasks: int,
        shared_parameters: Iterable[Tensor] | None,
        task_parameters: Sequence[Iterable[Tensor]] | None,
        features: Sequence[Edge] | None,
    ) -> Roles:
        """Those given, and for those that were not, those found.

        Raises:
            MethodError: where they do not fit the graph, each other, or the batches before.
        """
        shared = None if shared_parameters is None else given_shared(shared_parameters)
        own = None if task_parameters is None else given_own(task_parameters, num_tasks, shared or [])
        if shared is not None and own is not None:
            roles = Roles(shared, own)
        elif shared is None and own is None and self._found is not None:
            roles = self._found
            check_roles(roles, heads, tasks)
        else:
            roles = find_roles(heads, tasks, num_tasks, shared, features, own)
            if shared is None and own is None:
                self._found = roles
        layout = [list(tensor.shape) for tensor in roles.shared]
        if self.layout is not None and layout != self.layout:
            raise MethodError(
                f"the shared parameters' shapes are {layout}, but were {self.layout}: every model needs a Surgery of "
                "its own, and always the same parameters in the same order"
            )
        self.layout = layout
        return roles
