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
from mtrl_surgery.jacobian.shared_graph import is_shared, starts_of, walk
from mtrl_surgery.jacobian.shared_roles import Roles, find_roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods.base import GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.config import MethodError
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
        shared = find_roles(walk(starts_of(model.losses())), range(3), 3, None, None, None).shared
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


@pytest.mark.parametrize("losses", ["stack", "unbind"])
def test_stacked_losses_keep_their_own_heads(losses: str) -> None:
    model, listed = Shared(), Shared()
    stacked = torch.stack(model.losses())
    given = {"stack": stacked, "unbind": list(stacked)}[losses]
    Surgery("pcgrad", num_tasks=3).backward(given)
    Surgery("pcgrad", num_tasks=3).backward(listed.losses())
    torch.testing.assert_close(grads(list(model.parameters())), grads(list(listed.parameters())))


@pytest.mark.parametrize("form", ["select", "last", "scaled", "split", "cat"])
@pytest.mark.parametrize("settings", [{}, {"max_jacobian_bytes": 500}])
def test_losses_that_went_through_one_tensor_are_refused(form: str, settings: dict[str, int]) -> None:
    model = Shared()
    stacked = torch.stack(model.losses())
    given = {
        "select": [stacked[k] for k in range(3)],
        "last": [stacked[0], stacked[1], stacked[-1]],
        "scaled": stacked * torch.ones(3, dtype=torch.float64),
        "split": [part.squeeze() for part in stacked.split(1)],
        "cat": torch.cat([loss[None] for loss in stacked]),
    }[form]
    with pytest.raises(MethodError, match="computed in one tensor"):
        Surgery("pcgrad", num_tasks=3, **settings).backward(given)
    assert not grads(list(model.parameters())).any()


def test_one_layer_for_all_tasks_is_shared() -> None:
    """Each task reads a column of one layer's output: every task moves rows of the same parameter."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    outputs = layer(torch.randn(4, 5)).square().mean(0)
    wanted = loop_jacobian([outputs[k] for k in range(3)], list(layer.parameters()))
    Surgery("ls", num_tasks=3, reduction="sum").backward(outputs, diagnose=True)
    torch.testing.assert_close(grads(list(layer.parameters())), wanted.sum(0))


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
        return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

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


def engine_of(losses: list[Tensor], parameters: list[Tensor], heads: list[Tensor]) -> SharedEngine:
    reached = {id(leaf) for leaf in walk(starts_of(losses)).tasks}
    return SharedEngine(losses, Roles(parameters, [[head] for head in heads]), reached, None)


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_the_jacobian_of_random_graphs(graph) -> None:  # type: ignore[no-untyped-def]
    losses, parameters, heads = build(graph)
    wanted = loop_jacobian(losses, parameters)
    own = [torch.autograd.grad(loss, head, retain_graph=True)[0] for loss, head in zip(losses, heads, strict=True)]
    engine = engine_of(losses, parameters, heads)
    found = engine.jacobian().matrix(torch.stack(losses).detach())
    torch.testing.assert_close(found, wanted)
    for task, gradients in enumerate(engine.own_gradients):
        assert len(gradients) == 1
        torch.testing.assert_close(gradients[0][1], own[task])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses[-1], heads[-1])  # the graph is freed, as by a loop


@settings(max_examples=40, deadline=None)
@given(graph=graphs(), max_bytes=st.sampled_from([1, 300, 600]))
def test_the_gramian_of_random_graphs_block_by_block(graph, max_bytes: int) -> None:  # type: ignore[no-untyped-def]
    losses, parameters, heads = build(graph)
    wanted = loop_jacobian(losses, parameters)
    weights_K = torch.linspace(-1, 2, len(losses), dtype=torch.float64)
    engine = engine_of(losses, parameters, heads)
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
    bits = walk(starts_of(losses)).tasks
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


def test_batch_norm_in_train_mode() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    heads = [nn.Linear(12, 1) for _ in range(3)]
    x = torch.randn(4, 1, 4, 4)
    features = trunk(x)
    losses = [head(features).square().mean() for head in heads]
    wanted = loop_jacobian(losses, list(trunk.parameters())).sum(0)
    Surgery("ls", 3, reduction="sum").backward(losses, diagnose=True)
    torch.testing.assert_close(grads(list(trunk.parameters())), wanted)
