"""A step of a method as though the tasks that are missing from the batch did not exist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import METHODS


@contextlib.contextmanager
def present_only(method: AnyMethod, tasks: Sequence[int]) -> Iterator[AnyMethod]:
    """The method, inside the block, for the present tasks alone.

    Its `state_axes` say what it holds for each task: the state of a missing task stays as it was, and what all tasks
    share (a step counter) moves on. An error in the block leaves all of it as it was.

    Args:
        method: For all K tasks.
        tasks: Those that are present, in increasing order.

    Raises:
        MethodError: if the method is not one of ours, or has not yet seen a batch with every task.
    """
    if len(tasks) == method.num_tasks:
        yield method
        return
    entry = METHODS.get(method.name)
    if entry is None or entry.origin != "ours":
        raise MethodError(f"{method.name}: cannot leave a task out of a batch; only the project's own methods can")
    whole = {name: getattr(method, name) for name in method.state_axes}
    unmade = sorted(name for name, value in whole.items() if value is None)
    if unmade:
        raise MethodError(f"{method.name}: its first batch must have every task, to begin {', '.join(unmade)}")
    axes = {name: [i for i, axis in enumerate(kinds) if axis == "task"] for name, kinds in method.state_axes.items()}
    num_tasks, diagnostics, after = method.num_tasks, method._diagnostics, whole
    method.num_tasks, method._diagnostics = len(tasks), {}
    for name, value in whole.items():
        setattr(method, name, _take(value, axes[name], tasks))
    try:
        yield method
        after = {name: _put(value, getattr(method, name), axes[name], tasks) for name, value in whole.items()}
        diagnostics |= of_all_tasks(method.diagnostics(), tasks, num_tasks, 0.0)
    finally:
        method.num_tasks, method._diagnostics = num_tasks, diagnostics
        for name, value in after.items():
            setattr(method, name, value)


def of_all_tasks(found: Mapping[str, Tensor], tasks: Sequence[int], num_tasks: int, absent: float) -> dict[str, Tensor]:
    """Tensors of the present tasks as ones of all K, by what their names' shape suffixes say.

    Args:
        found: By name.
        tasks: Those that are present, in increasing order.
        num_tasks: K.
        absent: What stands for a missing task.
    """
    if len(tasks) == num_tasks:
        return dict(found)
    whole = {}
    for name, tensor in found.items():
        axes = task_axes(name)
        shape = [num_tasks if axis in axes else size for axis, size in enumerate(tensor.shape)]
        whole[name] = _put(tensor.new_full(shape, absent), tensor, axes, tasks)
    return whole


def task_axes(name: str) -> list[int]:
    """The axes that count tasks in a tensor of that name: where its shape suffix has a K."""
    suffix = name.rpartition("_")[2]
    return [axis for axis, letter in enumerate(suffix) if letter == "K"] if suffix.isupper() else []


def _take(tensor: Tensor, axes: list[int], tasks: Sequence[int]) -> Tensor:
    for axis in axes:
        tensor = tensor.index_select(axis, torch.tensor(tasks, device=tensor.device))
    return tensor if axes else tensor.clone()


def _put(whole: Tensor, part: Tensor, axes: list[int], tasks: Sequence[int]) -> Tensor:
    if not axes:
        return part
    index = torch.tensor(tasks, device=whole.device)
    result = whole.clone()
    if axes == [0]:
        result[index] = part
    elif axes == [0, 1]:
        result[index[:, None], index] = part
    else:
        raise MethodError(f"a state whose axes {axes} count tasks cannot be put back")
    return result
