"""Multi-task curvature: closed forms, the exact Hessian, and the promise that looking changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtrl_surgery.jacobian.curvature import curvature_of_last_step, multi_task_curvature
from mtrl_surgery.jacobian.grouped import TaskLosses
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.update import SurgeryOptimizer
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from tests.jacobian.test_grouped import data, losses_of, network, plain_loss

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def by_differences(losses: TaskLosses, theta_P: Tensor, step_P: Tensor, nodes: int = 1) -> dict[str, Tensor]:
    """`curvature_of_last_step` from the start of the step, as `multi_task_curvature` takes it."""
    parameters = FlatParameters({"theta": theta_P + step_P})
    start_P = theta_P.clone().requires_grad_()
    (gradient_P,) = torch.autograd.grad(losses(start_P).mean(), start_P)
    return curvature_of_last_step(losses, parameters, step_P, gradient_P, nodes)


def hessian_integral(losses: TaskLosses, theta_P: Tensor, step_P: Tensor, points: int) -> Tensor:
    """The definition: full Hessians at the midpoints of equal parts of the step."""

    def mean_loss(point_P: Tensor) -> Tensor:
        return losses(point_P).mean()

    gradient_P = torch.func.grad(mean_loss)(theta_P)
    shares = (torch.arange(points, dtype=F64) + 0.5) / points
    hessians = [
        torch.autograd.functional.hessian(mean_loss, theta_P + share * step_P, vectorize=True) for share in shares
    ]
    return torch.stack([gradient_P @ hessian_PP @ gradient_P for hessian_PP in hessians]).mean()


def smooth_network() -> tuple[TaskLosses, Tensor, Tensor]:
    """A tanh network on theta_P, where it is, and a step."""
    inputs_KBI, targets_KB = draw(3, 6, 2), draw(3, 6, seed=1)

    def losses(theta_P: Tensor) -> Tensor:
        hidden_KBH = torch.tanh(inputs_KBI @ theta_P[:10].view(2, 5) + theta_P[10:15])
        return (hidden_KBH @ theta_P[15:20] + theta_P[20] - targets_KB).square().mean(1)

    return losses, draw(21, seed=2), 0.6 * draw(21, seed=3)


@pytest.mark.parametrize("measure", [multi_task_curvature, by_differences])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_quadratic_has_g_A_g(measure, nodes: int) -> None:
    """L_k = (theta - c_k)^T A_k (theta - c_k) / 2 has mean Hessian mean(A_k), wherever the step leads."""
    root_KPP, center_KP, theta_P, step_P = draw(4, 5, 5), draw(4, 5, seed=1), draw(5, seed=2), draw(5, seed=3)
    hessian_KPP = root_KPP + root_KPP.mT  # indefinite: curvature has a sign

    def losses(point_P: Tensor) -> Tensor:
        away_KP = point_P - center_KP
        return 0.5 * torch.einsum("kp,kpq,kq->k", away_KP, hessian_KPP, away_KP)

    gradient_P = torch.einsum("kpq,kq->kp", hessian_KPP, theta_P - center_KP).mean(0)
    expected = gradient_P @ hessian_KPP.mean(0) @ gradient_P
    measures = measure(losses, theta_P, step_P, nodes)
    torch.testing.assert_close(measures["curvature"], expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        measures["normalised_curvature"], expected / gradient_P.square().sum(), rtol=1e-8, atol=0
    )


@pytest.mark.parametrize("measure", [multi_task_curvature, by_differences])
def test_a_smooth_network_has_the_integral_of_its_hessians(measure) -> None:
    losses, theta_P, step_P = smooth_network()
    expected = hessian_integral(losses, theta_P, step_P, points=32)
    errors = [abs(measure(losses, theta_P, step_P, nodes)["curvature"] / expected - 1).item() for nodes in (1, 2, 4)]
    assert errors[2] < 1e-3 and errors[2] < errors[0], "more nodes are closer"
    at_start = hessian_integral(losses, theta_P, torch.zeros_like(step_P), points=1)
    assert abs(at_start / expected - 1) > 0.01, "the step is long enough for the integral to count"


def test_a_short_step_needs_one_node() -> None:
    losses, theta_P, step_P = smooth_network()
    expected = hessian_integral(losses, theta_P, 0.02 * step_P, points=8)
    torch.testing.assert_close(
        multi_task_curvature(losses, theta_P, 0.02 * step_P)["curvature"], expected, rtol=1e-3, atol=0
    )


def test_the_node_of_an_odd_integrand_is_exact() -> None:
    """L = theta^3 / 6 along one coordinate has Hess L = theta, linear over the step: its mean is the middle."""
    measures = multi_task_curvature(
        lambda theta_P: theta_P[None, 0] ** 3 / 6, torch.tensor([2.0], dtype=F64), torch.tensor([-1.0], dtype=F64)
    )
    assert measures["curvature"].item() == pytest.approx(2.0**2 * 1.5)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_task_mlp_by_differences_equals_the_exact_hessian(layer_norm: bool, dtype: torch.dtype) -> None:
    """The perceptrons of SAC, whose backward has no backward; away from the kinks of their ReLUs."""
    mlp, (x_KBI, y_KBO) = network(2, [3, 8, 6, 2], 1, layer_norm), data(3, 4, 5)
    theta_P = mlp.parameters.vector_P.clone()
    step_P = 1e-4 * draw(theta_P.numel(), seed=7)

    def plain(point_P: Tensor) -> Tensor:
        return torch.stack([plain_loss(mlp, point_P, *task) for task in zip(x_KBI, y_KBO, strict=True)])

    expected = hessian_integral(plain, theta_P, step_P, points=1)
    exact = multi_task_curvature(plain, theta_P, step_P)["curvature"]
    torch.testing.assert_close(exact, expected)

    parameters = FlatParameters({name: view.to(dtype) for name, view in mlp.parameters.views().items()})
    losses = losses_of(type(mlp)(parameters, layer_norm), x_KBI.to(dtype), y_KBO.to(dtype))
    gradient_P = torch.func.grad(lambda point_P: plain(point_P).mean())(theta_P)
    parameters.vector_P += step_P.to(dtype)
    before_P = parameters.vector_P.clone()
    measures = curvature_of_last_step(losses, parameters, step_P.to(dtype), gradient_P.to(dtype))
    torch.testing.assert_close(measures["curvature"], expected, rtol=1e-2 if dtype == torch.float32 else 1e-5, atol=0)
    assert torch.equal(parameters.vector_P, before_P), "put back to the bit"


def test_edges() -> None:
    zero_P, step_P = torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
    for measure in (multi_task_curvature, by_differences):
        flat = measure(lambda theta_P: theta_P.square().sum()[None], zero_P, step_P)
        assert flat["curvature"] == flat["normalised_curvature"] == 0, "no gradient, no direction to bend in"
        linear = measure(lambda theta_P: torch.stack([theta_P.sum(), 3 * theta_P.sum()]), zero_P, step_P)
        assert linear["curvature"].abs() < 1e-9
        bad = measure(lambda theta_P: theta_P.square().sum()[None] * torch.nan, step_P, step_P)
        assert bad["curvature"].isnan() and bad["normalised_curvature"].isnan()
        still = measure(lambda theta_P: functional.softplus(theta_P).sum()[None], zero_P, zero_P)
        torch.testing.assert_close(still["normalised_curvature"], torch.tensor(0.25, dtype=F64))


def test_an_error_in_the_losses_leaves_the_parameters_in_place() -> None:
    parameters = FlatParameters({"theta": draw(4)})
    before_P = parameters.vector_P.clone()

    def broken(theta_P: Tensor) -> Tensor:
        raise RuntimeError("no losses today")

    with pytest.raises(RuntimeError, match="today"):
        curvature_of_last_step(broken, parameters, torch.ones(4, dtype=F64), torch.ones(4, dtype=F64))
    assert torch.equal(parameters.vector_P, before_P)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_optimizer_measures_its_own_step_and_moves_as_ever(method: str) -> None:
    x_KBI, y_KBO = data(3, 6, 2)
    looked, plain = (
        SurgeryOptimizer(
            network(2, [3, 8, 2], 4).parameters, make_method(find_method(method).config(), 3, 0), 0.01, 1e-8, None
        )
        for _ in range(2)
    )
    losses = {
        id(each): losses_of(type(network(1, [1, 1], 0))(each.parameters), x_KBI, y_KBO) for each in (looked, plain)
    }
    for update in range(4):
        start_P = looked.parameters.vector_P.clone()
        looked.step(losses[id(looked)], update, diagnose=True, curvature=True)
        plain.step(losses[id(plain)], update)
        assert torch.equal(looked.parameters.vector_P, plain.parameters.vector_P)
    mlp = network(2, [3, 8, 2], 4)

    def on_theta(point_P: Tensor) -> Tensor:
        return torch.stack([plain_loss(mlp, point_P, *task) for task in zip(x_KBI, y_KBO, strict=True)])

    expected = multi_task_curvature(on_theta, start_P, looked.parameters.vector_P - start_P)
    # A kink of a ReLU inside the difference's radius is worth up to a few per cent on so small a network.
    torch.testing.assert_close(looked.conflicts["curvature"], expected["curvature"], rtol=0.1, atol=0)
    assert "curvature" not in plain.conflicts


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    mlp, (x_KBI, y_KBO) = network(2, [3, 8, 2], 5), data(3, 6, 3)
    cuda = type(mlp)(mlp.parameters.copy("cuda"))
    losses = losses_of(cuda, x_KBI.cuda(), y_KBO.cuda())
    step_P = (1e-3 * draw(mlp.parameters.num_parameters)).cuda()
    curvature_of_last_step(losses, cuda.parameters, step_P, step_P)
    torch.cuda.set_sync_debug_mode("error")
    try:
        measures = curvature_of_last_step(losses, cuda.parameters, step_P, step_P)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = curvature_of_last_step(losses_of(mlp, x_KBI, y_KBO), mlp.parameters, step_P.cpu(), step_P.cpu())
    torch.testing.assert_close(measures["curvature"].cpu(), expected["curvature"], rtol=1e-4, atol=0)
