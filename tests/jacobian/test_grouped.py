"""The batched Jacobian equals a loop over tasks, whatever the network's shape."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtrl_surgery.jacobian.grouped import TaskLosses, task_jacobian, weighted_gradient
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.task_mlp import TaskMLP

F64 = torch.float64


def network(members: int, sizes: list[int], seed: int, layer_norm: bool = False) -> TaskMLP:
    """Float64 perceptrons with weights of order one, so that every gradient counts."""
    generator = torch.Generator().manual_seed(seed)
    initial = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        initial[f"weight{layer}"] = torch.randn(members, fan_in, fan_out, dtype=F64, generator=generator)
        initial[f"bias{layer}"] = torch.randn(members, 1, fan_out, dtype=F64, generator=generator)
    return TaskMLP(FlatParameters(initial), layer_norm)


def plain_forward(mlp: TaskMLP, theta_P: Tensor, x_BI: Tensor) -> Tensor:
    """The same network, written the plain way: out_EBO."""
    views = list(mlp.parameters.split(theta_P).values())
    hidden_EBH = x_BI.expand(mlp.members, -1, -1)
    for depth, (weight_EIO, bias_E1O) in enumerate(zip(views[::2], views[1::2], strict=True)):
        hidden_EBH = hidden_EBH @ weight_EIO + bias_E1O
        if depth < len(mlp.layers) - 1:
            if mlp.layer_norm:
                hidden_EBH = functional.layer_norm(hidden_EBH, hidden_EBH.shape[-1:])
            hidden_EBH = hidden_EBH.relu()
    return hidden_EBH


def plain_loss(mlp: TaskMLP, theta_P: Tensor, x_BI: Tensor, y_BO: Tensor) -> Tensor:
    """One task's mean squared error, summed over the ensemble."""
    return (plain_forward(mlp, theta_P, x_BI) - y_BO).square().mean((1, 2)).sum()


def losses_of(mlp: TaskMLP, x_KBI: Tensor, y_KBO: Tensor) -> TaskLosses:
    """The same losses for all tasks at once."""
    return lambda theta: (mlp(x_KBI, theta) - y_KBO).square().mean((2, 3)).sum(0)


def data(tasks: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(tasks, batch, 3, dtype=F64, generator=generator),
        torch.randn(tasks, batch, 2, dtype=F64, generator=generator),
    )


@settings(max_examples=40, deadline=None)
@given(
    tasks=st.integers(1, 6),
    batch=st.integers(1, 5),
    members=st.integers(1, 3),
    hidden=st.lists(st.integers(2, 7), max_size=3),
    layer_norm=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_jacobian_equals_the_loop(
    tasks: int, batch: int, members: int, hidden: list[int], layer_norm: bool, seed: int
) -> None:
    mlp = network(members, [3, *hidden, 2], seed, layer_norm)
    x_KBI, y_KBO = data(tasks, batch, seed)
    losses = losses_of(mlp, x_KBI, y_KBO)

    jacobian_KP, losses_K = task_jacobian(losses, mlp.parameters, tasks)

    theta_P = mlp.parameters.vector_P.clone().requires_grad_()
    expected = [plain_loss(mlp, theta_P, x_BI, y_BO) for x_BI, y_BO in zip(x_KBI, y_KBO, strict=True)]
    rows = [torch.autograd.grad(loss, theta_P)[0] for loss in expected]
    torch.testing.assert_close(losses_K, torch.stack(expected).detach())
    torch.testing.assert_close(jacobian_KP, torch.stack(rows))
    weights_K = torch.rand(tasks, dtype=F64, generator=torch.Generator().manual_seed(seed))
    direction_P, _ = weighted_gradient(losses, mlp.parameters, lambda _: weights_K)
    torch.testing.assert_close(direction_P, weights_K @ jacobian_KP)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_jacobian_equals_torch_func(layer_norm: bool) -> None:
    mlp = network(2, [3, 5, 4, 2], 0, layer_norm)
    x_KBI, y_KBO = data(4, 6, 0)
    gradient = torch.func.grad(lambda theta_P, x_BI, y_BO: plain_loss(mlp, theta_P, x_BI, y_BO))
    expected_KP = torch.func.vmap(gradient, in_dims=(None, 0, 0))(mlp.parameters.vector_P, x_KBI, y_KBO)
    jacobian_KP, _ = task_jacobian(losses_of(mlp, x_KBI, y_KBO), mlp.parameters, 4)
    torch.testing.assert_close(jacobian_KP, expected_KP)


def test_any_network_written_on_theta_gets_its_jacobian() -> None:
    """The engine knows nothing of perceptrons: a network may read theta by `split`, with a task axis or without."""
    parameters = FlatParameters({"shift": torch.randn(3, dtype=F64), "mix": torch.randn(3, 2, dtype=F64)})
    x_KBI, y_KBO = data(4, 5, 1)

    def losses(theta: Tensor) -> Tensor:
        views = parameters.split(theta)
        out_KBO = (x_KBI - views["shift"].unsqueeze(-2)).tanh() @ views["mix"]
        return (out_KBO - y_KBO).square().mean((1, 2))

    jacobian_KP, losses_K = task_jacobian(losses, parameters, 4)
    weights_K = torch.arange(4, dtype=F64)
    direction_P, again_K = weighted_gradient(losses, parameters, lambda _: weights_K)
    torch.testing.assert_close(again_K, losses_K)
    torch.testing.assert_close(direction_P, weights_K @ jacobian_KP)
    assert (jacobian_KP.norm(dim=1) > 0).all()


@pytest.mark.parametrize("uses", [1, 2])
def test_a_lent_room_changes_no_bit_and_is_written_by_one_pass_only(uses: int) -> None:
    mlp = network(2, [3, 5, 2], 0)
    x_KBI, y_KBO = data(4, 3, 0)

    def losses(theta: Tensor) -> Tensor:  # with two uses the second pass must not overwrite what the first one wrote
        outputs = [mlp(x_KBI * (use + 1), theta) - y_KBO for use in range(uses)]
        return torch.stack([output.square().mean((2, 3)).sum(0) for output in outputs]).sum(0)

    expected_KP, _ = task_jacobian(losses, mlp.parameters, 4)
    room_KP = torch.full_like(expected_KP, torch.nan)
    jacobian_KP, _ = task_jacobian(losses, mlp.parameters, 4, room_KP)
    assert torch.equal(jacobian_KP, expected_KP)
    if uses == 1:
        assert jacobian_KP.data_ptr() == room_KP.data_ptr()
    task_jacobian(lambda theta: 2 * losses(theta), mlp.parameters, 4)
    assert torch.equal(jacobian_KP, expected_KP), "the room is lent for one backward"


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_gradient_of_the_inputs(layer_norm: bool) -> None:
    """The actor learns through the critics: by their inputs, not by their weights."""
    mlp, (x_KBI, _) = network(2, [3, 6, 2], 4, layer_norm), data(3, 4, 2)
    x_KBI.requires_grad_()
    (by_inputs,) = torch.autograd.grad(mlp(x_KBI).square().sum(), x_KBI)
    outs = [plain_forward(mlp, mlp.parameters.vector_P, x_BI).square().sum() for x_BI in x_KBI]
    (expected,) = torch.autograd.grad(torch.stack(outs).sum(), x_KBI)
    torch.testing.assert_close(by_inputs, expected)
    (both, _) = torch.autograd.grad(mlp(x_KBI, mlp.parameters.leaf(3)).square().sum(), [x_KBI, mlp.parameters.leaf(3)])
    torch.testing.assert_close(both, expected)


def test_theta_of_another_network_is_refused() -> None:
    mlp, other = network(1, [3, 2], 0), network(1, [3, 2], 0)
    with pytest.raises(ValueError, match="own parameters"):
        mlp(data(2, 3, 0)[0], other.parameters.leaf())


def test_views_and_leaves_follow_the_vector_and_a_copy_does_not() -> None:
    parameters = network(1, [3, 4, 2], 3).parameters
    copy, leaf_KP = parameters.copy(), parameters.leaf(5)
    parameters.vector_P.zero_()
    assert all((view == 0).all() for view in parameters.views().values())
    assert leaf_KP.shape == (5, parameters.num_parameters) and (leaf_KP == 0).all()
    assert copy.vector_P.abs().sum() > 0
    assert sum(view.numel() for view in parameters.views().values()) == parameters.num_parameters


@pytest.mark.gpu
@pytest.mark.parametrize("layer_norm", [False, True])
def test_jacobian_on_cuda_equals_the_cpu(layer_norm: bool) -> None:
    mlp, (x_KBI, y_KBO) = network(2, [3, 8, 2], 5, layer_norm), data(4, 6, 3)
    expected_KP, _ = task_jacobian(losses_of(mlp, x_KBI, y_KBO), mlp.parameters, 4)
    cuda = TaskMLP(mlp.parameters.copy("cuda"), layer_norm)
    jacobian_KP, _ = task_jacobian(losses_of(cuda, x_KBI.cuda(), y_KBO.cuda()), cuda.parameters, 4)
    torch.testing.assert_close(jacobian_KP.cpu(), expected_KP)
