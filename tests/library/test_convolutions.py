"""The trunk's pass with convolutions of our own is that of autograd, whatever the shapes and the graph."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import mtrl_surgery.jacobian.shared_pointwise as shared_pointwise
import mtrl_surgery.jacobian.shared_winograd as shared_winograd
from mtrl_surgery import Surgery
from mtrl_surgery.jacobian.shared_engine import SharedEngine
from mtrl_surgery.jacobian.shared_graph import loss_edges, walk
from mtrl_surgery.jacobian.shared_pointwise import Pointwise
from mtrl_surgery.jacobian.shared_roles import Roles
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.jacobian.shared_winograd import Convolution, is_eligible
from tests.library.models import grads, loop_jacobian


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of any size are taken."""
    monkeypatch.setattr(shared_winograd, "LEAST_PIXELS", 1)
    monkeypatch.setattr(shared_pointwise, "LEAST_PRODUCTS", 1)


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype).requires_grad_()


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 3),
    outputs=st.integers(16, 19),
    inputs=st.integers(16, 19),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
)
def test_one_convolution_of_any_size(samples: int, outputs: int, inputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    x, filters = draw(samples, inputs, height, width), draw(outputs, inputs, 3, 3)
    y = F.conv2d(x, filters, padding=1)
    cotangent = torch.randn_like(y)
    by_input, by_filter = torch.autograd.grad(y, (x, filters), cotangent, retain_graph=True)
    found = torch.empty_like(filters)
    (result,) = Convolution(y.grad_fn).backward([cotangent], True, found.detach()[None])
    assert result is not None
    torch.testing.assert_close(result, by_input)
    torch.testing.assert_close(found.detach(), by_filter)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3), outputs=st.integers(1, 5), inputs=st.integers(1, 5), height=st.integers(1, 7))
def test_one_pointwise_convolution(samples: int, outputs: int, inputs: int, height: int) -> None:
    torch.manual_seed(0)
    x, filters = draw(samples, inputs, height, 3), draw(outputs, inputs, 1, 1)
    y = F.conv2d(x, filters)
    cotangents = torch.randn(2, *y.shape, dtype=y.dtype)
    found = torch.full((2, *filters.shape), torch.nan, dtype=y.dtype)
    results = Pointwise(y.grad_fn).backward(list(cotangents), True, found)
    for cotangent, result, filter_OIhw in zip(cotangents, results, found, strict=True):
        by_input, by_filter = torch.autograd.grad(y, (x, filters), cotangent, retain_graph=True)
        torch.testing.assert_close(result, by_input)
        torch.testing.assert_close(filter_OIhw, by_filter)
    assert Pointwise(y.grad_fn).backward(list(cotangents), False, None) == []


def test_small_pointwise_convolutions_and_others_are_left_to_autograd() -> None:
    filters, x = draw(64, 64, 1, 1), draw(1, 64, 16, 16)
    assert shared_pointwise.is_eligible(F.conv2d(x, filters).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(x[:, :, 1:], filters).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(draw(1, 64, 40, 40), filters, stride=2).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(x, filters, padding=1).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(x, filters * 2).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(draw(1, 64, 18, 18), draw(64, 64, 3, 3)).grad_fn)
    assert not shared_pointwise.is_eligible(F.conv2d(x.half(), draw(64, 64, 1, 1, dtype=torch.float16)).grad_fn)
    filters.register_hook(lambda grad: grad)
    assert not shared_pointwise.is_eligible(F.conv2d(x, filters).grad_fn)


def test_float32_is_as_accurate_as_the_docs_say() -> None:
    torch.manual_seed(0)
    x, filters = draw(8, 128, 16, 16), draw(128, 128, 3, 3)
    y = F.conv2d(x, filters, padding=1)
    cotangent = torch.randn_like(y)
    wanted = torch.autograd.grad(y, (x, filters), cotangent)
    x32, filters32 = (t.detach().float().requires_grad_() for t in (x, filters))
    found = torch.empty_like(filters32).detach()
    node = F.conv2d(x32, filters32, padding=1).grad_fn
    (by_input,) = Convolution(node).backward([cotangent.float()], True, found[None])
    for result, exact in zip((by_input, found), wanted, strict=True):
        assert result is not None
        assert (result - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize(
    "options",
    [{"stride": 2, "padding": 1}, {"padding": 0}, {"dilation": 2, "padding": 1}, {"groups": 2, "padding": 1}],
)
def test_other_convolutions_are_left_to_autograd(options: dict[str, int]) -> None:
    assert is_eligible(F.conv2d(draw(3, 16, 9, 10), draw(16, 16, 3, 3), padding=1).grad_fn)
    assert not is_eligible(F.conv2d(draw(3, 16, 9, 9), draw(16, 16, 3, 3), padding=1).grad_fn)
    filters = draw(32, 32 // options.get("groups", 1), 3, 3)
    assert not is_eligible(F.conv2d(draw(4, 32, 9, 9), filters, **options).grad_fn)
    assert not is_eligible(F.conv2d(draw(4, 3, 9, 9), draw(32, 3, 3, 3), padding=1).grad_fn)
    assert not is_eligible(F.conv2d(draw(4, 32, 9, 9), draw(32, 32, 5, 5), padding=1).grad_fn)
    assert not is_eligible(F.conv1d(draw(40, 32, 9), draw(32, 32, 3), padding=1).grad_fn)
    assert not is_eligible(F.conv_transpose2d(draw(4, 32, 9, 9), draw(32, 32, 3, 3), padding=1).grad_fn)
    half = (draw(4, 32, 9, 9).bfloat16(), draw(32, 32, 3, 3).bfloat16())
    assert not is_eligible(F.conv2d(*half, padding=1).grad_fn)


class Net(nn.Module):
    """A skip connection, a filter that is used twice, one that is no leaf, a frozen one, batch norm, two frontiers."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=bias) for bias in (True, False, True, True))
        self.mix = nn.Conv2d(16, 16, 1)
        self.norm = nn.BatchNorm2d(16)
        self.convs[3].weight.requires_grad_(False)
        self.gain = nn.Parameter(torch.ones(16, 1, 1, 1))
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(num_tasks))
        self.double()
        self.x = torch.randn(3, 3, 8, 8, dtype=torch.float64)

    def losses(self) -> list[Tensor]:
        x = self.norm(self.first(self.x)).relu()
        x = x + self.convs[0](x).tanh()
        x = F.max_pool2d(self.convs[1](x), 2)
        middle = self.mix(x) + self.convs[2](x)
        x = self.convs[2](middle).sigmoid()
        scaled = F.conv2d(x, self.convs[1].weight * self.gain, padding=1)
        last = self.convs[3](scaled)
        maps = [middle, last]
        return [
            (head(maps[task % 2].mean((2, 3))).square().mean() + (0 if task else self.convs[0].weight.square().sum()))
            for task, head in enumerate(self.heads)
        ]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_jacobian_of_a_net(chunk_size: int | None, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Convolution] = []

    class Taken(Convolution):
        def __init__(self, node: object) -> None:
            super().__init__(node)
            taken.append(self)

    monkeypatch.setattr(shared_winograd, "Convolution", Taken)
    net = Net(5)
    shared = [p for name, p in net.named_parameters() if p.requires_grad and not name.startswith("heads")]
    losses = net.losses()
    wanted = loop_jacobian(losses, shared)
    heads = [list(head.parameters()) for head in net.heads]
    own = [torch.autograd.grad(loss, head, retain_graph=True) for loss, head in zip(losses, heads, strict=True)]
    roles = Roles(shared, heads)
    engine = SharedEngine(walk([edge for _, edge, _ in loss_edges(losses, 5)]), roles, chunk_size, None)
    if bounded:
        weights_K = torch.linspace(-1, 2, 5, dtype=torch.float64)
        torch.testing.assert_close(engine.gramian(10**5, Team(range(5))), wanted @ wanted.T)
        torch.testing.assert_close(engine.combined(weights_K).matrix(weights_K[:1])[0], weights_K @ wanted)
    else:
        torch.testing.assert_close(engine.jacobian().matrix(torch.stack(losses).detach()), wanted)
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(losses[0], net.convs[0].weight)
    assert taken
    for head, gradients, expected in zip(heads, engine.own_gradients, own, strict=True):
        found = {id(parameter): grad for parameter, grad in gradients}
        for parameter, right in zip(head, expected, strict=True):
            torch.testing.assert_close(found[id(parameter)], right)


class Counted(torch.autograd.Function):
    """The identity, which counts how often a gradient passes it."""

    passed = 0

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        Counted.passed += 1
        return grad


@pytest.mark.usefixtures("small")
def test_one_frontier() -> None:
    """More tasks than a pass takes; where branches meet each task passes once; the graph is freed without a pass."""
    torch.manual_seed(0)
    convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)).double()
    heads = [nn.Linear(16, 1).double() for _ in range(19)]
    first = Counted.apply(convs[0](torch.randn(2, 16, 5, 6, dtype=torch.float64)).relu())
    second = convs[1](first)
    last = convs[2](first + second.tanh())
    losses = [head(last.mean((2, 3))).square().sum() for head in heads]
    shared = list(convs.parameters())
    wanted = loop_jacobian(losses, shared)
    roles = Roles(shared, [list(head.parameters()) for head in heads])
    engine = SharedEngine(walk([edge for _, edge, _ in loss_edges(losses, 19)]), roles, None, None)
    Counted.passed = 0
    torch.testing.assert_close(engine.jacobian().matrix(torch.stack(losses).detach()), wanted)
    assert Counted.passed == 19
    for tensor in (second, last):
        with pytest.raises(RuntimeError, match="second time"):
            _ = tensor.grad_fn._saved_input  # type: ignore[union-attr]


@pytest.mark.usefixtures("small")
def test_a_hook_on_a_tensor_of_the_trunk_is_obeyed() -> None:
    torch.manual_seed(0)
    convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(2)).double()
    heads = [nn.Linear(16, 1).double() for _ in range(3)]

    def losses() -> list[Tensor]:
        hidden = convs[0](torch.ones(2, 16, 4, 4, dtype=torch.float64))
        hidden.register_hook(lambda grad: 3 * grad)
        last = convs[1](hidden.tanh()).mean((2, 3))
        return [head(last).square().sum() for head in heads]

    convs[0].weight.register_hook(lambda grad: 5 * grad)  # its convolution is left to autograd
    wanted = loop_jacobian(losses(), list(convs.parameters())).sum(0)
    Surgery("ls", 3, reduction="sum").backward(losses(), list(convs.parameters()), diagnose=True)
    torch.testing.assert_close(grads(list(convs.parameters())), wanted)


@pytest.mark.usefixtures("small")
def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(node: object) -> Convolution:
        raise AssertionError(node)

    monkeypatch.setattr(shared_winograd, "Convolution", never)
    net = Net(3)
    Surgery("pcgrad", 3, fast_convolutions=False).backward(net.losses())
    with pytest.raises(AssertionError):
        Surgery("pcgrad", 3).backward(net.losses())


class Branches(nn.Module):
    """Heads with convolutions; one uses a filter in another way too, and one reads the trunk twice."""

    def __init__(self, nested: bool, skips: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.nested, self.skips = nested, skips
        self.trunk = nn.ModuleList(nn.Conv2d(channels, 16, 3, padding=1) for channels in (3, 16))
        self.between = nn.Conv2d(16, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.gates = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(4))
        self.heads = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.double()
        self.x = torch.randn(2, 3, 9, 6, dtype=torch.float64)

    def losses(self) -> list[Tensor]:
        first = self.trunk[0](self.x).tanh()
        last = self.trunk[1](first).tanh()
        losses = []
        for task, head in enumerate(self.heads):
            mask = self.between(self.gates[task](head(last)).sigmoid())
            y = mask * first if self.nested else mask
            y = y + self.again(y).tanh() if self.skips else self.again(y).tanh()
            loss = (y.cos() * (task + 1)).mean()
            if task == 1:
                loss = loss + self.again.weight.square().sum()
            if task == 2:
                loss = loss + last.square().sum()
            losses.append(loss)
        return losses


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_convolutions_of_heads(nested: bool, skips: bool, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken over but where the graph must be freed by autograd; shared filters' rows come in one piece."""
    monkeypatch.setattr(shared_winograd, "LEAST_ALONE", 1)
    taken: list[object] = []

    class Taken(Convolution):
        def __init__(self, node: object) -> None:
            super().__init__(node)
            taken.append(node)

    monkeypatch.setattr(shared_winograd, "Convolution", Taken)
    net = Branches(nested, skips)
    shared = [parameter for name, parameter in net.named_parameters() if not name.startswith("heads")]
    heads = [list(head.parameters()) for head in net.heads]
    losses = net.losses()
    wanted = loop_jacobian(losses, shared)
    own = [loop_jacobian([loss], head)[0] for loss, head in zip(losses, heads, strict=True)]
    engine = SharedEngine(walk([edge for _, edge, _ in loss_edges(losses, 4)]), Roles(shared, heads), None, None)
    if bounded:
        weights_K = torch.linspace(-1, 2, 4, dtype=torch.float64)
        torch.testing.assert_close(engine.gramian(2 * 16 * 16 * 9 * 8, Team(range(4))), wanted @ wanted.T)
        torch.testing.assert_close(engine.combined(weights_K).matrix(weights_K[:1])[0], weights_K @ wanted)
    else:
        torch.testing.assert_close(engine.jacobian().matrix(torch.stack(losses).detach()), wanted)
    heads_taken = 4 if nested else 0 if skips else 2  # the others would free what they still need
    assert len(set(taken)) == 1 + 3 * heads_taken
    for parameters, gradients, right in zip(heads, engine.own_gradients, own, strict=True):
        by_id = {id(parameter): grad for parameter, grad in gradients}
        found = torch.cat([by_id[id(parameter)].flatten() for parameter in parameters])
        torch.testing.assert_close(found, right)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses[0], net.heads[0].weight)


def test_bands_of_any_height(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of rows, of samples, and of tasks: the rows that two bands share are added up."""
    torch.manual_seed(0)
    x, filters = draw(3, 16, 22, 9), draw(17, 16, 3, 3)
    y = F.conv2d(x, filters, padding=1)
    cotangents = [torch.randn_like(y) for _ in range(3)]
    wanted = [torch.autograd.grad(y, (x, filters), cotangent, retain_graph=True) for cotangent in cotangents]
    monkeypatch.setattr(shared_winograd, "BAND_FILTERS", 0)
    seen = set()
    for tiles in (1, 3, 7, 20, 40, 200):
        monkeypatch.setattr(shared_winograd, "BAND_BYTES", tiles * 36 * (16 + 17) * 8)
        seen.add(len(shared_winograd._bands(x.shape, tiles)))
        found = torch.empty(3, *filters.shape, dtype=torch.float64)
        results = Convolution(y.grad_fn).backward(list(cotangents), True, found)
        for result, rows, (by_input, by_filter) in zip(results, found, wanted, strict=True):
            torch.testing.assert_close(result, by_input)
            torch.testing.assert_close(rows, by_filter)
    assert len(seen) > 3
