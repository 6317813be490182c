"""Our methods as TorchJD objects, in TorchJD's own loop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GramianWeightedAggregator
from torchjd.autojac import jac_to_grad, mtl_backward

from mtrl_surgery import Surgery
from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from mtrl_surgery.methods.torchjd.as_torchjd import MethodAggregator, MethodScalarizer, as_torchjd
from tests.library.models import Shared, grads
from tests.methods.jacobians import direction

OURS = sorted(name for name, entry in METHODS.items() if entry.origin == "ours")
LOSSES = [name for name in OURS if METHODS[name].needs == "losses"]
GRADIENTS = [name for name in OURS if METHODS[name].needs != "losses"]
TASKS = 3


def fresh(name: str) -> Any:
    return make_method(find_method(name).config(), TASKS, seed=1)


def show_losses(aggregator: Any, losses_K: Tensor) -> None:
    holder = aggregator.gramian_weighting if isinstance(aggregator, GramianWeightedAggregator) else aggregator
    holder.losses = losses_K


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    jacobian_KP = torch.randn(TASKS, 8, generator=generator, dtype=torch.float64)
    return jacobian_KP, torch.rand(TASKS, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("name", GRADIENTS)
def test_an_aggregator_gives_the_methods_directions(name: str) -> None:
    aggregator, method = as_torchjd(fresh(name)), fresh(name)
    for step in range(4):
        jacobian_KP, losses_K = batch(step)
        show_losses(aggregator, losses_K)
        torch.testing.assert_close(aggregator(jacobian_KP), direction(method, jacobian_KP, losses_K))


@pytest.mark.parametrize("name", LOSSES)
def test_a_scalarizers_gradient_is_the_methods_weights(name: str) -> None:
    scalarizer, method = as_torchjd(fresh(name)), fresh(name)
    assert isinstance(scalarizer, MethodScalarizer) and isinstance(method, LossWeighting)
    for step in range(4):
        losses_K = batch(step)[1].requires_grad_()
        scalarizer(losses_K).backward()
        torch.testing.assert_close(losses_K.grad, method.weights(losses_K.detach()))
        scalarizer.update(0.9 * losses_K)
        method.observe(0.9 * losses_K.detach())


@pytest.mark.parametrize("name", GRADIENTS)
def test_torchjds_loop_with_our_method_is_our_loop(name: str) -> None:
    ours, theirs = Shared(), Shared()
    surgery, aggregator = Surgery(name, num_tasks=TASKS, seed=1), as_torchjd(fresh(name))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.02) for model in (ours, theirs)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        surgery.backward(ours.losses(), shared_parameters=ours.shared, task_parameters=ours.own)

        features = theirs.trunk(theirs.x)
        losses = theirs.losses_from(features)
        show_losses(aggregator, torch.stack(losses))
        mtl_backward(losses, features=features)
        jac_to_grad(theirs.trunk.parameters(), aggregator)
        torch.testing.assert_close(
            grads(list(theirs.parameters())), grads(list(ours.parameters())), rtol=1e-5, atol=1e-6
        )
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("name", ["samgs", "pcgrad", "famo"])
def test_the_memory_is_in_the_state_dict(name: str) -> None:
    one, other = as_torchjd(fresh(name)), as_torchjd(make_method(find_method(name).config(), TASKS, seed=9))

    def call(module: Any, step: int) -> Tensor:
        jacobian_KP, losses_K = batch(step)
        result: Tensor = module(losses_K if isinstance(module, MethodScalarizer) else jacobian_KP)
        if isinstance(module, MethodScalarizer):
            module.update(losses_K / 2)
        return result

    for step in range(3):
        call(one, step)
    other.load_state_dict(one.state_dict())
    for step in range(3, 8):
        assert torch.equal(call(one, step), call(other, step))


def test_a_method_that_reads_losses_is_not_a_number_without_them() -> None:
    without, shown = as_torchjd(fresh("dbmtl")), as_torchjd(fresh("dbmtl"))
    assert isinstance(without, MethodAggregator)
    jacobian_KP, losses_K = batch(0)
    show_losses(shown, losses_K)
    assert without(jacobian_KP).isnan().all() and shown(jacobian_KP).isfinite().all()
    assert as_torchjd(fresh("samgs"))(jacobian_KP).isfinite().all(), "who reads none does without"


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(MethodError, match="object is no loss weighting"):
        as_torchjd(object())  # type: ignore[call-overload]


def test_the_example_of_the_page_runs() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "methods" / "torchjd.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(example, "torchjd.md", "exec"), scope)
    assert all(parameter.grad is not None for parameter in scope["trunk"].parameters())
