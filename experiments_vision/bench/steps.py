"""What is timed: one forward pass and the gradients of all tasks, in one way or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchjd.aggregation import Mean
from torchjd.autojac import backward, jac_to_grad

from experiments_vision.bench.cases import Case
from experiments_vision.contract import VisionError
from mtrl_surgery.methods.base import GramianWeighting, LossWeighting
from mtrl_surgery.surgery import Surgery

Step = Callable[[], object]

FORWARD, PLAIN, LIST, STACKED, TORCHJD = "forward", "plain", "list", "stacked", "torchjd"


def make_steps(
    case: Case, methods: Sequence[str], chunks: Sequence[int], bounds: Sequence[float] = ()
) -> dict[str, Step]:
    """Name -> a step; the gradients of the shared parameters and of the tasks' own are made by all of them.

    `forward` is what all begin with. `plain` is one backward of the summed losses. `list` asks autograd for one loss's
    gradients after the other, of losses in a list; `stacked` of the elements of a stacked tensor, as published code
    does. `torchjd` is its autojac with the mean of the rows, the cheapest aggregator. The rest are `Surgery`, whose
    step also solves the method.

    Args:
        case: The network.
        methods: Ours, by name.
        chunks: A variant of each method for each of these `chunk_size`s.
        bounds: A variant of each Gramian method whose Jacobian may take so many times P, for each of these.

    Raises:
        MethodError: for an unknown method.
        VisionError: for a loss weighting, which needs no task's gradients.
    """
    roles = case.roles()
    shared = roles.shared

    def plain() -> None:
        losses, _ = case.forward()
        torch.stack(losses).sum().backward()

    def loop(losses: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        pairs = zip(losses, roles.own, strict=True)
        return [torch.autograd.grad(loss, [*shared, *own], retain_graph=True, allow_unused=True) for loss, own in pairs]

    def torchjd() -> None:
        losses, _ = case.forward()
        for loss, own in zip(losses, roles.own, strict=True):
            for parameter, grad in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
                parameter.grad = grad
        backward(losses, inputs=shared)
        jac_to_grad(shared, Mean())

    steps: dict[str, Step] = {
        FORWARD: case.forward,
        PLAIN: plain,
        LIST: lambda: loop(case.forward()[0]),
        STACKED: lambda: loop(torch.stack(case.forward()[0]).unbind()),
        TORCHJD: torchjd,
    }
    for method in methods:
        if isinstance(Surgery(method, case.num_tasks).method, LossWeighting):
            raise VisionError(f"methods={method}: a loss weighting makes no task's gradients; name others")
        steps[method] = _surgery(case, method, None, features=False)
        for chunk in chunks:
            steps[f"{method} chunk_size={chunk}"] = _surgery(case, method, chunk, features=False)
        weighs = isinstance(Surgery(method, case.num_tasks).method, GramianWeighting)
        for bound in bounds if weighs else ():
            steps[f"{method} bound={bound:g}"] = _bounded(case, method, int(bound * sum(p.nbytes for p in shared)))
        if case.by_features or weighs:
            steps[f"{method} features="] = _surgery(case, method, None, features=True)
    return steps


def _surgery(case: Case, method: str, chunk: int | None, features: bool) -> Step:
    return _step(case, Surgery(method, case.num_tasks, chunk_size=chunk), features)


def _bounded(case: Case, method: str, max_bytes: int) -> Step:
    """The least memory: a task at a time, convolutions without transforms."""
    settings: dict[str, Any] = {"chunk_size": 1, "max_jacobian_bytes": max_bytes, "fast_convolutions": False}
    return _step(case, Surgery(method, case.num_tasks, **settings), False)


def _step(case: Case, surgery: Surgery, features: bool) -> Step:
    def step() -> None:
        losses, found = case.forward()
        surgery.backward(losses, features=found if features else None)

    return step
