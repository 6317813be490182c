"""A watched model: one backward pass for all tasks gives what one pass a task gives, or says that it cannot."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtrl_surgery import Surgery
from mtrl_surgery.jacobian.shared_rows import RowPass
from mtrl_surgery.methods.config import MethodError


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention, or attention to a part of the sequence."""

    def __init__(self, cross: bool = False, weights: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cross, self.weights = cross, weights

    def forward(self, x: Tensor) -> Tensor:
        other = x[:, :3] if self.cross else x
        return self.attention(x, other, other, need_weights=self.weights)[0]  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Words in, words out, by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8, padding_idx=2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.words(x).tanh(), self.words.weight)


class Bilinear(nn.Module):
    """A bilinear layer of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.Linear(6, 4), nn.Linear(6, 3), nn.Bilinear(4, 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(self.left(x), self.right(x))  # type: ignore[no-any-return]


class Checkpointed(nn.Module):
    """A block that is run again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.last = nn.Sequential(nn.Linear(6, 7), nn.Tanh()), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.block, x, use_reentrant=False))  # type: ignore[no-any-return]


def flat(rows: int) -> Tensor:
    return torch.randn(rows, 6)


def images(rows: int) -> Tensor:
    return torch.randn(rows, 4, 6, 6)


def sequences(rows: int) -> Tensor:
    return torch.randn(rows, 5, 8)


def words(rows: int) -> Tensor:
    return torch.randint(0, 11, (rows, 5))


AT_ONCE: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3, bias=False)), flat),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)), flat),
    "rms norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8), nn.Tanh(), nn.Linear(8, 3)), flat),
    "bilinear": (Bilinear, flat),
    "checkpoint": (Checkpointed, flat),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, 2, 1, groups=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 4, 2, dilation=2)
        ),
        images,
    ),
    "conv1d": (lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3), nn.Tanh(), nn.Conv1d(6, 2, 1)), images),
    "conv3d": (lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, (1, 3, 2)), nn.Tanh()), images),
    "residual": (lambda: nn.Sequential(Residual(nn.Linear(6, 6), nn.Tanh()), Residual(nn.Linear(6, 6))), flat),
    "attention": (Attention, sequences),
    "attention, with weights": (lambda: Attention(weights=True), sequences),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2),
        sequences,
    ),
    "words": (Tied, words),
}
"""Models of which every parameter is covered."""

PARTLY: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "cross attention": (lambda: Attention(cross=True), sequences),
    "batch norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)), flat),
    "lstm": (
        lambda: nn.Sequential(nn.Linear(8, 8), First(nn.LSTM(8, 4, batch_first=True)), nn.Linear(4, 2)),
        sequences,
    ),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3)),
        flat,
    ),
    "prelu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 3)), flat),
    "same padding": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), nn.Tanh(), nn.Conv2d(4, 2, 1)), images),
    "length first": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), lambda rows: sequences(rows).mT.mT),
}


class First(nn.Module):
    """The first of what a layer returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]  # type: ignore[no-any-return]


def losses_of(model: nn.Module, x: Tensor, task_B: Tensor, num_tasks: int) -> list[Tensor | None]:
    """A loss of each task's rows, curved so that no gradient is another's multiple; None for a task without rows."""
    out = model(x)
    aims = torch.linspace(-1.0, 1.0, num_tasks)
    rows = [task_B == task for task in range(num_tasks)]
    return [((out[mine] - aim).square().mean() if mine.any() else None) for mine, aim in zip(rows, aims, strict=True)]


def gradients(model: nn.Module, surgery: Surgery, losses: Sequence[Tensor | None], **options: object) -> list[Tensor]:
    model.zero_grad()
    surgery.backward(losses, list(model.parameters()), [[] for _ in losses], **options)  # type: ignore[arg-type]
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def check_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    whole = torch.cat([tensor.flatten() for tensor in expected])
    difference = torch.cat([tensor.flatten() for tensor in found]) - whole
    assert difference.norm() <= tolerance * whole.norm()


def covered(watched: Surgery, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parameters each later pass covers."""
    counts: list[int] = []
    run = RowPass.run

    def counting(self: RowPass, parameters: Sequence[Tensor], *rest: object, **options: object) -> None:
        counts.append(len(parameters))
        run(self, parameters, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(RowPass, "run", counting)
    return counts


@pytest.mark.parametrize("kind", [*AT_ONCE, *PARTLY])
@pytest.mark.parametrize("method", ["pcgrad", "samgs"])
def test_the_direction_is_that_of_one_pass_a_task(kind: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    make, rows_of = (AT_ONCE | PARTLY)[kind]
    model = make().double()
    x = rows_of(11)
    x = x if x.dtype == torch.int64 else x.double()
    if kind == "length first":
        x = x.transpose(0, 1).contiguous()
    task_B = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1, 2, 2])
    other = copy.deepcopy(model)
    watched, plain = Surgery(method, 3, model=model), Surgery(method, 3)
    counts = covered(watched, monkeypatch)

    def losses(network: nn.Module) -> list[Tensor | None]:
        if kind != "length first":
            return losses_of(network, x, task_B, 3)
        out = network(x)
        return [(out[:, task_B == k] - k).square().mean() for k in range(3)]

    for _ in range(3):
        check_close(gradients(model, watched, losses(model)), gradients(other, plain, losses(other)))
    if kind in AT_ONCE:
        assert counts[-1] == len(list(model.parameters()))


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(AT_ONCE)),
    tasks=st.lists(st.integers(-1, 4), min_size=2, max_size=30).filter(lambda t: max(t) >= 0),
    method=st.sampled_from(["pcgrad", "mgda", "cagrad"]),  # without a state, which would want a whole batch first
    small=st.booleans(),
    given_rows=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_rows_and_any_missing_tasks(
    kind: str, tasks: list[int], method: str, small: bool, given_rows: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    make, rows_of = AT_ONCE[kind]
    model, task_B = make().double(), torch.tensor(tasks)
    x = rows_of(len(tasks))
    x = x if x.dtype == torch.int64 else x.double()
    other = copy.deepcopy(model)
    bytes_ = 1 if small else 2**32
    watched = Surgery(method, 5, model=model, max_jacobian_bytes=bytes_)
    plain = Surgery(method, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradients(model, watched, losses_of(model, x, task_B, 5), task_of_row=tasks if given_rows else None)
    check_close(found, gradients(other, plain, losses_of(other, x, task_B, 5)), 1e-8)


def test_one_forward_pass_a_task_is_covered_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    other, x = copy.deepcopy(model), torch.randn(3, 5, 6).double()
    watched = Surgery("pcgrad", 3, model=model)
    counts = covered(watched, monkeypatch)
    found = gradients(model, watched, [model(rows).square().mean() for rows in x])
    check_close(found, gradients(other, Surgery("pcgrad", 3), [other(rows).square().mean() for rows in x]))
    assert counts[-1] == 4, "each pass has one task's rows: batch norm mixes none of two tasks; its own has no rule"


def test_rows_that_meet_without_a_layer_that_says_so_are_found() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.last((hidden - hidden.mean(0)).tanh())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, task_B, x = Centred().double(), torch.arange(12) % 3, torch.randn(12, 6).double()
    other, watched, plain = copy.deepcopy(model), Surgery("pcgrad", 3, model=model), Surgery("pcgrad", 3)
    with pytest.warns(UserWarning, match=r"first\.weight, first\.bias"):
        found = gradients(model, watched, losses_of(model, x, task_B, 3))
    check_close(found, gradients(other, plain, losses_of(other, x, task_B, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradients(model, watched, losses_of(model, x, task_B, 3))
    check_close(found, gradients(other, plain, losses_of(other, x, task_B, 3)))


def test_tasks_that_read_the_same_rows_have_a_pass_each() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.randn(12, 6).double()
    other = copy.deepcopy(model)

    def losses(network: nn.Module) -> list[Tensor]:
        return list((network(x) - 0.3).square().mean(0).unbind())

    found = gradients(model, Surgery("pcgrad", 3, model=model), losses(model))
    check_close(found, gradients(other, Surgery("pcgrad", 3), losses(other)))


def test_a_hook_on_a_parameter_is_obeyed() -> None:
    torch.manual_seed(0)
    model, task_B, x = (
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(),
        torch.arange(12) % 3,
        flat(12),
    )
    other = copy.deepcopy(model)
    for network in (model, other):
        network[0].weight.register_hook(lambda grad: -2.0 * grad)  # type: ignore[operator]
    with pytest.warns(UserWarning, match=r"0\.weight"):
        found = gradients(model, Surgery("pcgrad", 3, model=model), losses_of(model, x.double(), task_B, 3))
    check_close(found, gradients(other, Surgery("pcgrad", 3), losses_of(other, x.double(), task_B, 3)))


@pytest.mark.parametrize("kind", ["mlp", "conv2d", "transformer"])
def test_autocast_and_a_scaler(kind: str) -> None:
    torch.manual_seed(0)
    make, rows_of = AT_ONCE[kind]
    model, task_B, x = make(), torch.arange(12) % 3, rows_of(12)
    other, scaler = copy.deepcopy(model), torch.amp.GradScaler("cpu", init_scale=256.0)
    found = []
    for network, surgery in ((model, Surgery("pcgrad", 3, model=model)), (other, Surgery("pcgrad", 3))):
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        losses = [(out[task_B == k].float() - k).square().mean() for k in range(3)]
        found.append(gradients(network, surgery, losses, scaler=scaler))
    check_close(*found, tolerance=0.02)


def test_a_forward_pass_that_fails_or_needs_no_graph_leaves_nothing_behind() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    Surgery("pcgrad", 3, model=model)
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 5))
    with torch.no_grad():
        assert model(flat(4)).grad_fn is None
    out = nn.Linear(6, 2)(flat(3))
    assert not out.grad_fn.metadata, "functions outside of the model are not watched"  # type: ignore[union-attr]


def test_a_watched_model_can_be_copied_and_pickled() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    Surgery("pcgrad", 3, model=model)
    x = flat(4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


def test_a_compiled_model_is_as_exact() -> None:
    torch.manual_seed(0)
    model, task_B, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), torch.arange(12) % 3, flat(12)
    other = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")
    for watched in (model, compiled):
        surgery = Surgery("pcgrad", 3, model=watched)  # type: ignore[arg-type]
        for _ in range(2):
            found = gradients(model, surgery, losses_of(compiled, x, task_B, 3))  # type: ignore[arg-type]
            expected = gradients(other, Surgery("pcgrad", 3), losses_of(other, x, task_B, 3))
            check_close(found, expected, 1e-5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 1]], "task_of_row has shape"),
        ([0.0, 1.0], "task_of_row has shape"),
        ([0, 3], "task_of_row names task 3"),
        ([0, -2], "task_of_row names task -2"),
    ],
)
def test_rows_of_a_wrong_kind(rows: object, said: str) -> None:
    model = nn.Linear(6, 3)
    losses = list(model(flat(3)).square().mean(1).unbind())
    with pytest.raises(MethodError, match=said):
        Surgery("pcgrad", 3, model=model).backward(losses, task_of_row=rows)  # type: ignore[arg-type]


def test_rows_want_a_model() -> None:
    model = nn.Linear(6, 3)
    with pytest.raises(MethodError, match=r"Surgery\(\.\.\., model=\.\.\.\)"):
        Surgery("pcgrad", 3).backward(list(model(flat(3)).square().mean(1).unbind()), task_of_row=[0, 1, 2])
