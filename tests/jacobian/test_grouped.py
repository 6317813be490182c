"""The batched Jacobian equals a loop over tasks, whatever the network's shape."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from agents.networks import initial_mlp, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtrl_surgery.jacobian.grouped import task_jacobian, weighted_gradient
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.task_linear import task_linear


def network(members: int, sizes: list[int], seed: int) -> FlatParameters:
    """Float64 parameters without the tiny last layer, so that every gradient counts."""
    parameters = initial_mlp(members, sizes, "he_uniform", torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    return FlatParameters(
        {
            name: torch.randn(value.shape, dtype=torch.float64, generator=generator)
            for name, value in parameters.views().items()
        }
    )


def losses_of(x_KBI: Tensor, y_KBO: Tensor, members: int):  # noqa: ANN201 - a closure of TaskLosses
    """Mean squared error of an ensemble, one loss a task."""

    def losses(parameters: Mapping[str, Tensor]) -> Tensor:
        out_EKBO = mlp(parameters, x_KBI.expand(members, -1, -1, -1))
        return (out_EKBO - y_KBO).square().mean((2, 3)).sum(0)

    return losses


def loop_jacobian(parameters: FlatParameters, x_KBI: Tensor, y_KBO: Tensor, members: int) -> Tensor:
    """K plain backward passes over one task's own data each: what everyone else does."""
    rows = []
    for x_BI, y_BO in zip(x_KBI, y_KBO, strict=True):
        leaves = {name: view.clone().requires_grad_() for name, view in parameters.views().items()}
        loss = losses_of(x_BI[None], y_BO[None], members)(leaves)[0]
        rows.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(leaves.values()))]))
    return torch.stack(rows)


@settings(max_examples=25, deadline=None)
@given(
    tasks=st.integers(1, 6),
    batch=st.integers(1, 5),
    members=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 7), max_size=3),
    seed=st.integers(0, 2**20),
)
def test_jacobian_equals_the_loop(tasks: int, batch: int, members: int, hidden: list[int], seed: int) -> None:
    sizes = [3, *hidden, 2]
    parameters = network(members, sizes, seed)
    generator = torch.Generator().manual_seed(seed)
    x_KBI = torch.randn(tasks, batch, 3, dtype=torch.float64, generator=generator)
    y_KBO = torch.randn(tasks, batch, 2, dtype=torch.float64, generator=generator)
    losses = losses_of(x_KBI, y_KBO, members)

    jacobian_KP, losses_K = task_jacobian(losses, parameters, tasks)

    torch.testing.assert_close(jacobian_KP, loop_jacobian(parameters, x_KBI, y_KBO, members))
    torch.testing.assert_close(losses_K, losses(parameters.views()))
    weights_K = torch.rand(tasks, dtype=torch.float64, generator=generator)
    direction_P, _ = weighted_gradient(losses, parameters, lambda _: weights_K)
    torch.testing.assert_close(direction_P, weights_K @ jacobian_KP)


def test_jacobian_equals_torch_func() -> None:
    parameters = network(2, [3, 5, 4, 2], 0)
    x_KBI, y_KBO = torch.randn(4, 6, 3, dtype=torch.float64), torch.randn(4, 6, 2, dtype=torch.float64)

    def task_loss(vector_P: Tensor, x_BI: Tensor, y_BO: Tensor) -> Tensor:
        views = parameters.split(vector_P)
        hidden = x_BI.expand(2, -1, -1)
        for layer in range(3):
            hidden = hidden @ views[f"weight{layer}"] + views[f"bias{layer}"].unsqueeze(1)
            hidden = hidden.relu() if layer < 2 else hidden
        return (hidden - y_BO).square().mean((1, 2)).sum()

    expected_KP = torch.func.vmap(torch.func.grad(task_loss), in_dims=(None, 0, 0))(
        parameters.vector_P, x_KBI, y_KBO
    )
    jacobian_KP, _ = task_jacobian(losses_of(x_KBI, y_KBO, 2), parameters, 4)
    torch.testing.assert_close(jacobian_KP, expected_KP)


def test_a_task_owned_head_gets_its_own_gradient_only() -> None:
    """Heads carry a real task axis; the same layer maps over it."""
    x_EKBI = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight_KEIO = torch.randn(3, 1, 5, 2, dtype=torch.float64, requires_grad=True)
    bias_KEO = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    out_EKBO = task_linear(x_EKBI, weight_KEIO, bias_KEO)
    for task in range(3):
        torch.testing.assert_close(
            out_EKBO[0, task], x_EKBI[0, task] @ weight_KEIO[task, 0] + bias_KEO[task, 0]
        )
    assert torch.autograd.gradcheck(task_linear, (x_EKBI, weight_KEIO, bias_KEO))


def test_shared_weights_pass_gradcheck_through_the_task_axis() -> None:
    x_EKBI = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight_EIO = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    bias_EO = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def expanded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return task_linear(x, weight.expand(3, *weight.shape), bias.expand(3, *bias.shape))

    assert torch.autograd.gradcheck(expanded, (x_EKBI, weight_EIO, bias_EO))


def test_out_is_filled_in_place_and_views_alias_the_vector() -> None:
    parameters = network(1, [3, 4, 2], 3)
    x_KBI, y_KBO = torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 3, 2, dtype=torch.float64)
    out_KP = torch.full((2, parameters.num_parameters), torch.nan, dtype=torch.float64)
    jacobian_KP, _ = task_jacobian(losses_of(x_KBI, y_KBO, 1), parameters, 2, out_KP)
    assert jacobian_KP is out_KP
    assert torch.isfinite(out_KP).all()
    copy = parameters.copy()
    parameters.vector_P.zero_()
    assert all((view == 0).all() for view in parameters.views().values())
    assert copy.vector_P.abs().sum() > 0


@pytest.mark.gpu
def test_jacobian_on_cuda_equals_the_cpu() -> None:
    parameters = network(2, [3, 8, 2], 5)
    x_KBI, y_KBO = torch.randn(4, 6, 3, dtype=torch.float64), torch.randn(4, 6, 2, dtype=torch.float64)
    expected_KP, _ = task_jacobian(losses_of(x_KBI, y_KBO, 2), parameters, 4)
    jacobian_KP, _ = task_jacobian(losses_of(x_KBI.cuda(), y_KBO.cuda(), 2), parameters.copy("cuda"), 4)
    torch.testing.assert_close(jacobian_KP.cpu(), expected_KP)
