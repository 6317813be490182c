"""Gradients as by a plain loop of `torch.autograd.grad`, whatever the graph looks like, and as by TorchJD."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.aggregation import Sum
from torchjd.autojac import jac_to_grad, mtl_backward

from mtrl_surgery import Surgery
from mtrl_surgery.jacobian.shared_engine import SharedEngine
from mtrl_surgery.jacobian.shared_graph import is_shared, loss_edges, walk
from mtrl_surgery.jacobian.shared_roles import Roles, find_roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods.base import GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from tests.library.models import Shared, grads, loop_jacobian

OURS = sorted(name for name, entry in METHODS.items() if entry.origin == "ours")


def expected(name: str, model: Shared, shared: list[Tensor], num_tasks: int = 3) -> tuple[Tensor, Tensor]:
    """The method's own answer to the looped Jacobian, and the weights of the tasks' own gradients."""
    method = make_method(find_method(name).config(), num_tasks, seed=0)
    losses = model.losses()
    losses_K, jacobian_KP = torch.stack(losses).detach(), loop_jacobian(losses, shared)
    gramian_KK, ones_K = jacobian_KP @ jacobian_KP.T, torch.ones(num_tasks, dtype=losses_K.dtype)
    if isinstance(method, LossWeighting):
        weights_K = method.weights(losses_K)
        return weights_K @ jacobian_KP, weights_K
    if isinstance(method, GramianWeighting):
        return method.weights(gramian_KK, losses_K) @ jacobian_KP, ones_K
    assert isinstance(method, JacobianMethod)
    return method.direction(jacobian_KP, gramian_KK, losses_K), ones_K


@pytest.mark.parametrize("how", ["found", "given", "generators"])
@pytest.mark.parametrize("name", OURS)
def test_every_method_fills_grad(name: str, how: str) -> None:
    model = Shared()
    shared = model.shared
    if how == "found":  # then the columns are in the graph's order
        edges = [edge for _, edge, _ in loss_edges(model.losses(), 3)]
        shared = find_roles(walk(edges), range(3), 3, None, None, None).shared
        assert {id(parameter) for parameter in shared} == {id(parameter) for parameter in model.shared}
    direction_P, weights_K = expected(name, model, shared)
    own = [torch.autograd.grad(loss, own) for loss, own in zip(model.losses(), model.own, strict=True)]
    surgery = Surgery(name, num_tasks=3, seed=0)
    if how == "found":
        surgery.backward(model.losses())
    elif how == "given":
        surgery.backward(model.losses(), model.shared, model.own)
    else:
        surgery.backward(model.losses(), model.trunk.parameters(), [head.parameters() for head in model.heads])
    torch.testing.assert_close(grads(shared), direction_P)
    for parameters, gradients, weight in zip(model.own, own, weights_K, strict=True):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient * weight)


@pytest.mark.parametrize("losses", ["stack", "unbind", "select"])
def test_stacked_losses_keep_their_own_heads(losses: str) -> None:
    model, listed = Shared(), Shared()
    stacked = torch.stack(model.losses())
    given = {"stack": stacked, "unbind": list(stacked), "select": [stacked[k] for k in range(3)]}[losses]
    Surgery("pcgrad", num_tasks=3).backward(given)
    Surgery("pcgrad", num_tasks=3).backward(listed.losses())
    torch.testing.assert_close(grads(list(model.parameters())), grads(list(listed.parameters())))


def test_losses_of_one_tensor_need_the_task_parameters() -> None:
    model, listed = Shared(), Shared()
    errors = (torch.stack([head(model.trunk(model.x)) for head in model.heads]) - model.y).square()
    Surgery("pcgrad", num_tasks=3).backward(errors.sum((1, 2)) / 12, model.shared, model.own)
    Surgery("pcgrad", num_tasks=3).backward(listed.losses(), listed.shared)
    torch.testing.assert_close(grads(list(model.parameters())), grads(list(listed.parameters())))


def test_gradients_as_by_torchjd() -> None:
    model, theirs = Shared(), Shared()
    Surgery("ls", num_tasks=3, reduction="sum").backward(model.losses(), diagnose=True)
    features = theirs.trunk(theirs.x)
    mtl_backward(theirs.losses_from(features), features=features)
    jac_to_grad(theirs.shared, Sum())
    torch.testing.assert_close(grads(list(model.parameters())), grads(list(theirs.parameters())))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, int, int, list[tuple[int, int]], list[list[int]], list[list[int]]]:
    """(seed, tasks, layers, inputs of each layer, layers each task reads, layers' weights each task uses directly)."""
    tasks, layers = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    inputs = [(draw(st.integers(0, i)), draw(st.integers(0, i))) for i in range(layers)]
    some = st.lists(st.integers(0, layers - 1), min_size=1, max_size=3, unique=True)
    direct = st.lists(st.integers(0, layers - 1), max_size=2, unique=True)
    return (
        draw(st.integers(0, 1000)),
        tasks,
        layers,
        inputs,
        [draw(some) for _ in range(tasks)],
        [draw(direct) for _ in range(tasks)],
    )


def build(graph: tuple[int, int, int, list[tuple[int, int]], list[list[int]], list[list[int]]]):
    """Layers read two earlier ones, tasks read some layers and some weights: subsets, skips, nested trunks."""
    seed, tasks, layers, inputs, reads, direct = graph
    generator = torch.Generator().manual_seed(seed)

    def weights(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    parameters = [weights(3, 3) for _ in range(layers)]
    heads = [weights(3) for _ in range(tasks)]
    values = [torch.randn(4, 3, generator=generator, dtype=torch.float64)]
    for weight, (first, second) in zip(parameters, inputs, strict=True):
        values.append(torch.tanh((values[first] + values[second]) @ weight))
    losses = []
    for task in range(tasks):
        total = sum((values[layer + 1] for layer in reads[task]), torch.zeros(4, 3, dtype=torch.float64))
        loss = (total @ heads[task]).square().mean()
        for layer in direct[task]:
            loss = loss + parameters[layer].square().sum() * (task + 1)
        losses.append(loss)
    return losses, parameters, heads


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), chunk_size=st.sampled_from([None, 1, 2]))
def test_the_jacobian_of_random_graphs(graph, chunk_size: int | None) -> None:  # type: ignore[no-untyped-def]
    losses, parameters, heads = build(graph)
    wanted = loop_jacobian(losses, parameters)
    own = [torch.autograd.grad(loss, head, retain_graph=True)[0] for loss, head in zip(losses, heads, strict=True)]
    edges = [edge for _, edge, _ in loss_edges(losses, len(losses))]
    engine = SharedEngine(walk(edges), Roles(parameters, [[head] for head in heads]), chunk_size, None)
    found = engine.jacobian().matrix(torch.stack(losses).detach())
    torch.testing.assert_close(found, wanted)
    for task, gradients in enumerate(engine.own_gradients):
        assert len(gradients) == 1
        torch.testing.assert_close(gradients[0][1], own[task])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses[0], heads[0])  # the graph is freed, as by `backward`


@settings(max_examples=40, deadline=None)
@given(graph=graphs(), max_bytes=st.sampled_from([1, 300, 600]))
def test_the_gramian_of_random_graphs_block_by_block(graph, max_bytes: int) -> None:  # type: ignore[no-untyped-def]
    losses, parameters, heads = build(graph)
    wanted = loop_jacobian(losses, parameters)
    weights_K = torch.linspace(-1, 2, len(losses), dtype=torch.float64)
    edges = [edge for _, edge, _ in loss_edges(losses, len(losses))]
    engine = SharedEngine(walk(edges), Roles(parameters, [[head] for head in heads]), None, None)
    torch.testing.assert_close(engine.gramian(max_bytes, Team(range(len(losses)))), wanted @ wanted.T)
    combined = engine.combined(weights_K).matrix(weights_K[:1])
    torch.testing.assert_close(combined[0], weights_K @ wanted)
    assert [len(gradients) for gradients in engine.own_gradients] == [1] * len(losses)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses[0], heads[0])


@settings(max_examples=40, deadline=None)
@given(graph=graphs())
def test_roles_are_found_in_random_graphs(graph) -> None:  # type: ignore[no-untyped-def]
    losses, parameters, heads = build(graph)
    rows = loop_jacobian(losses, parameters)
    tasks = len(losses)
    bits = {leaf.variable: bits for leaf, bits in walk([e for _, e, _ in loss_edges(losses, tasks)]).leaves.items()}
    shared = [p for p in parameters if is_shared(bits.get(p, 0)) or (tasks == 1 and p in bits)]
    if not shared:
        with pytest.raises(ValueError, match="share no parameter"):
            Surgery("ls", tasks).backward(losses)
        return
    Surgery("ls", tasks, reduction="sum", max_norm=None).backward(losses, diagnose=True)
    torch.testing.assert_close(grads(parameters), rows.sum(0))
    for head in heads:
        assert head.grad is not None
    for parameter in parameters:
        assert (parameter.grad is None) == (parameter not in bits), "a parameter that nobody reaches keeps its grad"


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        # What vmap refuses: a Python branch on a value.
        return 2 * grad if grad.sum() > -1e30 else grad


def test_what_vmap_refuses_asks_for_chunk_size_1() -> None:
    trunk, heads = nn.Linear(3, 3), [nn.Linear(3, 1) for _ in range(2)]

    def losses() -> list[Tensor]:
        features = Doubled.apply(trunk(torch.ones(2, 3)))
        return [head(features).sum() for head in heads]

    with pytest.raises(ValueError, match="chunk_size=1"):
        Surgery("pcgrad", 2).backward(losses())
    found = losses()
    wanted = loop_jacobian(found, list(trunk.parameters())).sum(0)
    Surgery("ls", 2, chunk_size=1, reduction="sum").backward(found, diagnose=True)
    torch.testing.assert_close(grads(list(trunk.parameters())), wanted)


def test_batch_norm_in_train_mode() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    heads = [nn.Linear(12, 1) for _ in range(3)]
    x = torch.randn(4, 1, 4, 4)
    jacobians = []
    for chunk_size in (None, 1):
        trunk.zero_grad()
        features = trunk(x)
        losses = [head(features).square().mean() for head in heads]
        wanted = loop_jacobian(losses, list(trunk.parameters())).sum(0)
        Surgery("ls", 3, chunk_size=chunk_size, reduction="sum").backward(losses, diagnose=True)
        torch.testing.assert_close(grads(list(trunk.parameters())), wanted, rtol=1e-4, atol=1e-5)
        jacobians.append(wanted)
    torch.testing.assert_close(*jacobians)
