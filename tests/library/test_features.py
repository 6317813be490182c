"""`features=`: the method sees the gradients by what the heads read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtrl_surgery import Surgery
from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.graddrop import PositionNoise
from mtrl_surgery.methods.registry import find_method, make_method
from tests.library.models import Shared, grads, loop_jacobian


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "samgs"])
@pytest.mark.parametrize("given", [False, True])
def test_features(name: str, given: bool) -> None:
    model = Shared()
    features = model.trunk(model.x)
    losses = model.losses_from(features)
    jacobian_KZ = loop_jacobian(losses, [features])
    method, losses_K = make_method(find_method(name).config(), 3, seed=0), torch.stack(losses).detach()
    gramian_KK = jacobian_KZ @ jacobian_KZ.T
    if name == "samgs":
        direction_Z = method.direction(jacobian_KZ, gramian_KK, losses_K)
    else:
        direction_Z = method.weights(gramian_KK, losses_K) @ jacobian_KZ
    wanted = torch.autograd.grad(features, model.shared, direction_Z.view_as(features), retain_graph=True)
    own = [torch.autograd.grad(loss, group, retain_graph=True) for loss, group in zip(losses, model.own, strict=True)]
    groups = (model.shared, model.own) if given else ()
    Surgery(name, num_tasks=3).backward(losses, *groups, features=features)
    torch.testing.assert_close(grads(model.shared), torch.cat([g.flatten() for g in wanted]))
    for group, gradients in zip(model.own, own, strict=True):
        torch.testing.assert_close(grads(group), torch.cat([g.flatten() for g in gradients]))


def literal_graddrop(jacobian_KBZ: Tensor, features_BZ: Tensor, gates_Z: Tensor) -> Tensor:
    """Alg. 1 of GradDrop, at features, without a leak."""
    pull_KZ = (features_BZ.sign() * jacobian_KBZ).sum(dim=1)
    purity_Z = (1 + pull_KZ.sum(dim=0) / pull_KZ.abs().sum(dim=0)) / 2
    positive_Z = purity_Z > (1 - gates_Z) / 2
    kept_KZ = torch.where(positive_Z, pull_KZ > 0, pull_KZ < 0)
    return (kept_KZ[:, None] * jacobian_KBZ).sum(dim=0)


@pytest.mark.parametrize("case", ["one", "two", "scaled", "missing"])
def test_graddrop_by_features_is_the_published_form(case: str) -> None:
    """With a mask a feature, drawn from what the whole batch says; two tensors are one with all their columns."""
    model, tasks = Shared(), [0, 2] if case == "missing" else [0, 1, 2]
    low = model.trunk[:2](model.x)
    levels = [low.view(12, 1, 7), model.trunk[2:](low)] if case == "two" else [model.trunk(model.x)]
    losses = model.losses_from(levels[-1])
    if case == "two":
        losses = [loss + (levels[0] * (task - 1)).sin().sum() for task, loss in enumerate(losses)]
    rows = [torch.autograd.grad(losses[task], levels, retain_graph=True) for task in tasks]
    jacobian_KBZ = torch.stack([torch.cat([part.flatten(1) for part in row], dim=1) for row in rows])
    features_BZ = torch.cat([level.detach().flatten(1) for level in levels], dim=1)
    surgery, twin = Surgery("graddrop", 3, seed=4), make_method(find_method("graddrop").config(), 3, seed=4)
    width = features_BZ.shape[1]
    gates_Z = PositionNoise(twin._key(features_BZ.device), width).at(0, width).double() * 2.0**-15
    direction_BZ = literal_graddrop(jacobian_KBZ, features_BZ, gates_Z)
    parts = direction_BZ.split([level[0].numel() for level in levels], dim=1)
    directions = [part.reshape(level.shape) for part, level in zip(parts, levels, strict=True)]
    wanted = torch.autograd.grad(levels, model.shared, directions, retain_graph=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if case == "scaled" else None
    given = [loss if task in tasks else None for task, loss in enumerate(losses)]
    surgery.backward(given, model.shared, model.own, features=iter(levels), scaler=scaler)
    factor = 8 if scaler else 1
    torch.testing.assert_close(grads(model.shared), factor * torch.cat([g.flatten() for g in wanted]))
    weights_K = surgery.diagnostics()["weights_K"]
    assert weights_K.shape == (3,)
    assert (weights_K[1] == 0) == (case == "missing")


def test_graddrop_by_features_wants_one_batch_size() -> None:
    model = Shared()
    low = model.trunk[:2](model.x)
    levels = [low[:5].clone(), model.trunk[2:](low)]
    losses = [loss + levels[0].sum() for loss in model.losses_from(levels[1])]
    with pytest.raises(MethodError, match=r"first axis must be the batch, .* \[\(5, 7\), \(12, 6\)\]"):
        Surgery("graddrop", 3).backward(losses, features=levels)


def test_one_feature_behind_another() -> None:
    """Two levels of a pyramid: each task's gradient by a level is the one that does not go through the other."""
    model = Shared()
    levels: list[Tensor] = []
    losses = []
    low = model.trunk[:2](model.x)
    high = model.trunk[2:](low)
    levels = [low, high]
    losses = [(head(high).mean() + low.square().mean() * (task + 1)) for task, head in enumerate(model.heads)]
    wanted = loop_jacobian(losses, model.shared).mean(0)
    Surgery("ls", num_tasks=3).backward(losses, features=levels, diagnose=True)
    torch.testing.assert_close(grads(model.shared), wanted)


class Late(Shared):
    """The tasks share a layer past what their own first ones have made of the features, and a number as well."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Linear(4, 4).double()
        self.gain = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def losses_from(self, features: Tensor, rows: slice = slice(None)) -> list[Tensor]:
        errors = []
        for task, (head, y) in enumerate(zip(self.heads, self.y, strict=True)):
            hidden = self.between(head[:2](features)) if task else head[:2](features)  # the first goes without it
            errors.append((head[2](hidden.tanh()) * self.gain - y[rows]).square().mean())
        return errors

    @property
    def late(self) -> list[Tensor]:
        return [*self.between.parameters(), self.gain]


@pytest.mark.parametrize("name", ["ls", "pcgrad", "cagrad", "nashmtl"])
@pytest.mark.parametrize("case", ["found", "given", "tied", "scaled", "missing", "clipped"])
def test_what_is_shared_past_the_features_gets_the_same_weights(name: str, case: str) -> None:
    """The direction by all shared parameters is the gradient of one weighted loss; each task keeps its own."""
    model, tasks = Late(), [0, 2] if case == "missing" else [0, 1, 2]
    shared = [*model.shared, *model.late]
    features = model.trunk(model.x)
    losses = model.losses_from(features)
    if case == "tied":  # one of the trunk's own weights, past the features too
        losses = [loss + (task + 1) * model.shared[0].square().sum() for task, loss in enumerate(losses)]
    present = [losses[task] for task in tasks]
    jacobian_KZ = loop_jacobian(present, [features])
    method = make_method(find_method(name).config(), len(tasks), seed=0)
    losses_K = torch.stack(present).detach()
    seen = () if isinstance(method, LossWeighting) else (jacobian_KZ @ jacobian_KZ.T,)
    weights_K = method.weights(*seen, losses_K)
    wanted = weights_K @ loop_jacobian(present, shared)
    factors_K = weights_K if name == "ls" else torch.ones_like(weights_K)
    own = [loop_jacobian([losses[task]], model.own[task])[0] * factors_K[row] for row, task in enumerate(tasks)]
    if case == "clipped":
        wanted *= 0.01 / (wanted.norm() + 1e-6)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if case == "scaled" else None
    surgery = Surgery(name, 3, max_norm=0.01 if case == "clipped" else None)
    groups = () if case == "found" else (shared, model.own)
    given = [loss if task in tasks else None for task, loss in enumerate(losses)]
    surgery.backward(given, *groups, features=features, scaler=scaler, diagnose=True)
    factor = 8 if scaler else 1
    torch.testing.assert_close(grads(shared), factor * wanted)
    for task, gradient in zip(tasks, own, strict=True):
        torch.testing.assert_close(grads(model.own[task]), factor * gradient)


@pytest.mark.parametrize("name", ["samgs", "graddrop"])
def test_a_jacobian_method_has_no_weights_for_what_is_past_the_features(name: str) -> None:
    model = Late()
    features = model.trunk(model.x)
    losses = model.losses_from(features)
    with pytest.raises(MethodError, match=f"{name}: a loss reaches a shared parameter .* past the features; only"):
        Surgery(name, 3).backward(losses, features=features)
    for parameter in model.late:
        parameter.requires_grad_(False)
    features = model.trunk(model.x)
    Surgery(name, 3).backward(model.losses_from(features), features=features)
    assert all(parameter.grad is not None for parameter in model.shared)
    assert all(parameter.grad is None for parameter in model.late)
