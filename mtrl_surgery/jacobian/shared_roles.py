"""Which parameters the tasks share and which are a task's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mtrl_surgery.jacobian.shared_graph import Reached, edge_of, is_parameter, is_shared, walk
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
        MethodError: for something that is no leaf tensor, or where none requires a gradient.
    """
    found = list({id(p): p for p in _tensors(parameters, "shared_parameters") if p.requires_grad}.values())
    if not found:
        raise MethodError(f"shared_parameters: none of them requires a gradient{_USED_UP}")
    return found


def given_own(parameters: Sequence[Iterable[Tensor]], num_tasks: int, shared: Iterable[Tensor]) -> list[list[Tensor]]:
    """The tasks' own parameters that require a gradient.

    Raises:
        MethodError: for another number of tasks, something that is no leaf tensor, or a parameter that two lists claim.
    """
    own = [
        [p for p in _tensors(group, f"task_parameters[{task}]") if p.requires_grad]
        for task, group in enumerate(parameters)
    ]
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


_USED_UP = " (a generator is empty after one use: give a list)"


def _tensors(given: Iterable[Any], name: str) -> list[Tensor]:
    if isinstance(given, Tensor | nn.Module) or not isinstance(given, Iterable):
        raise MethodError(f"{name} is a {type(given).__name__}: give a list of parameters, such as module.parameters()")
    found = list(given)
    for one in found:
        if isinstance(one, nn.Module):
            raise MethodError(f"{name} holds a module, {type(one).__name__}: give its parameters()")
        if not isinstance(one, Tensor):
            raise MethodError(f"{name} holds a {type(one).__name__}: give parameters")
        if not one.is_leaf:
            raise MethodError(f"{name}: a tensor of shape {tuple(one.shape)} is no parameter but was computed")
    return found


def find_roles(
    heads: Reached,
    tasks: Sequence[int],
    num_tasks: int,
    shared: list[Tensor] | None,
    features: Sequence[Tensor] | None,
    own: list[list[Tensor]] | None,
) -> Roles:
    """The roles that were not given, by which tasks reach a parameter.

    Args:
        heads: The walk from the losses (down to the features where there are any).
        tasks: The walk's tasks, by number.
        num_tasks: K.
        shared: The shared parameters, where given; else those reached by two tasks or more (all, where K is 1); where
            there are features, first those reached through them, and last those that two tasks reach past them.
        features: The features, where given.
        own: The tasks' own parameters, where given; else those reached by one task only.

    Raises:
        MethodError: if a parameter fits no role, or a role cannot be told since a task is missing.
    """
    if len(tasks) < num_tasks:
        missing = sorted(set(range(num_tasks)) - set(tasks))
        raise MethodError(
            f"the tasks {missing} are missing, so this batch does not tell which parameters are shared: give "
            "shared_parameters and task_parameters, or begin with a batch that has every task"
        )
    given = {id(tensor) for group in own or [] for tensor in group}
    found = shared
    if found is None and features is not None:
        behind = walk([edge_of(tensor) for tensor in features]).tasks
        late = [leaf for leaf, bits in heads.tasks.items() if is_shared(bits)]
        found = [leaf for leaf in dict.fromkeys([*behind, *late]) if id(leaf) not in given]
    elif found is None:
        every = num_tasks == 1
        found = [leaf for leaf, bits in heads.tasks.items() if (every or is_shared(bits)) and id(leaf) not in given]
    if shared is None:
        _check_parameters(found)
    if own is None:
        own = [[] for _ in range(num_tasks)]
        known = {id(tensor) for tensor in found}
        for leaf, bits in heads.tasks.items():
            if id(leaf) in known:
                continue
            if is_shared(bits):
                if not is_parameter(leaf):
                    continue  # an input that requires a gradient
                raise MethodError(
                    f"a parameter of shape {tuple(leaf.shape)} is reached by several tasks but is not in "
                    "shared_parameters: add it, or freeze it (requires_grad_(False))"
                )
            own[tasks[bits.bit_length() - 1]].append(leaf)
        for group in own:
            _check_parameters(group)
    if not found:
        raise MethodError("the tasks share no parameter: there is nothing to operate on")
    return Roles(found, own)


def _check_parameters(leaves: Iterable[Tensor]) -> None:
    for leaf in leaves:
        if not is_parameter(leaf):
            raise MethodError(
                f"a tensor of shape {tuple(leaf.shape)} requires a gradient and is no nn.Parameter: it may be an "
                "input; give shared_parameters and task_parameters"
            )


def check_roles(roles: Roles, reached: Mapping[Tensor, int], tasks: Sequence[int], given: bool) -> None:
    """Whether the roles hold in this batch: every parameter that a loss reaches has one.

    Args:
        roles: Given, or found in an earlier batch.
        reached: Leaf -> bits of the tasks that reach it.
        tasks: The bits' tasks, by number.
        given: Whether the user gave a list.

    Raises:
        MethodError: for a parameter that has no role, or that a second task reaches now.
    """
    shared = {id(tensor) for tensor in roles.shared}
    owner = {id(tensor): task for task, group in enumerate(roles.own) for tensor in group}
    for leaf, bits in reached.items():
        if id(leaf) in shared:
            continue
        what = f"a parameter of shape {tuple(leaf.shape)}"
        if id(leaf) in owner:
            if not given and (is_shared(bits) or tasks[bits.bit_length() - 1] != owner[id(leaf)]):
                raise MethodError(f"{what} was task {owner[id(leaf)]}'s own in the first batch, and another's too now")
        elif given and is_parameter(leaf):
            raise MethodError(
                f"{what} is reached by a loss but is neither in shared_parameters nor in task_parameters: add it, or "
                f"freeze it (requires_grad_(False)){_USED_UP}"
            )
        elif not given:
            raise MethodError(f"{what} was not reached in the first batch: give shared_parameters and task_parameters")


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
        heads: Reached,
        tasks: Sequence[int],
        num_tasks: int,
        shared_parameters: Iterable[Tensor] | None,
        task_parameters: Sequence[Iterable[Tensor]] | None,
        features: Sequence[Tensor] | None,
    ) -> Roles:
        """Those given, and for those that were not, those found.

        Raises:
            MethodError: where they do not fit the graph, each other, or the batches before.
        """
        shared = None if shared_parameters is None else given_shared(shared_parameters)
        own = None if task_parameters is None else given_own(task_parameters, num_tasks, shared or [])
        given = shared is not None or own is not None
        if shared is not None and own is not None:
            roles = Roles(shared, own)
        elif not given and self._found is not None:
            roles = self._found
        else:
            roles = find_roles(heads, tasks, num_tasks, shared, features, own)
        behind = walk([edge_of(tensor) for tensor in features]).tasks if given and features is not None else {}
        check_roles(roles, {**behind, **heads.tasks}, tasks, given)
        if not given:
            self._found = roles
        layout = [list(tensor.shape) for tensor in roles.shared]
        if self.layout is not None and layout != self.layout:
            raise MethodError(
                f"the shared parameters' shapes are {layout}, but were {self.layout}: every model needs a Surgery of "
                "its own, and always the same parameters in the same order"
            )
        self.layout = layout
        return roles
