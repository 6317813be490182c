"""Surgery on the networks: per-task gradients as a plain loop's, and what `features` may be given."""

from __future__ import annotations

import warnings
from itertools import compress

import pytest
import torch
from torch import Tensor

from experiments_vision.contract import Outputs
from experiments_vision.models.mtan import MTAN
from experiments_vision.models.segnet import Maps
from mtrl_surgery import Surgery
from mtrl_surgery.methods.config import MethodError
from tests.vision.models.networks import SMALL, gradients, losses_of, small

TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def assert_equal(found: list[Tensor | None], wanted: list[Tensor | None]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, **TIGHT)


@pytest.mark.parametrize("name", ["segnet", "convnet", "lenet"])
@pytest.mark.parametrize("by_features", [True, False])
def test_ls_is_a_plain_backward_of_the_mean_loss(name: str, by_features: bool) -> None:
    model, batch = small(name)
    parameters = list(model.parameters())
    torch.stack(losses_of(model(batch))).mean().backward()
    wanted = gradients(parameters)
    outputs = model(batch)
    losses = losses_of(outputs)
    Surgery("ls", len(losses)).backward(losses, features=outputs.features if by_features else None)
    assert_equal(gradients(parameters), wanted)


@pytest.mark.parametrize("name", SMALL)
def test_a_gramian_methods_direction_is_the_weighted_sum_of_a_plain_loops_gradients(name: str) -> None:
    """Without a warning: every operation of the trunk goes through a batched backward pass."""
    model, batch = small(name)
    losses = losses_of(model(batch))
    surgery = Surgery("cagrad", len(losses))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surgery.backward(losses)
    found = gradients(list(model.parameters()))
    weights_K = surgery.diagnostics()["weights_K"]
    assert weights_K.std() > 1e-3
    named = list(model.named_parameters())
    for is_own, factors_K in [(False, weights_K), (True, torch.ones_like(weights_K))]:
        (torch.stack(losses_of(model(batch))) @ factors_K).backward()
        wanted = gradients([parameter for _, parameter in named])
        picked = [key.startswith(("heads", "branches")) == is_own for key, _ in named]
        assert any(picked)
        assert_equal(list(compress(found, picked)), list(compress(wanted, picked)))


@pytest.mark.parametrize("name", ["segnet", "convnet", "lenet"])
def test_a_gramian_method_by_features_is_a_weighted_backward_by_the_trunk(name: str) -> None:
    model, batch = small(name)
    outputs = model(batch)
    losses = losses_of(outputs)
    jacobian_KZ = torch.stack(
        [torch.autograd.grad(loss, outputs.features[0], retain_graph=True)[0].flatten() for loss in losses]
    )
    surgery = Surgery("cagrad", len(losses))
    surgery.backward(losses, features=outputs.features)
    shared = list(model.trunk.parameters())
    found, weights_K = gradients(shared), surgery.diagnostics()["weights_K"]
    torch.testing.assert_close(weights_K, surgery.method.weights(jacobian_KZ @ jacobian_KZ.T, torch.stack(losses)))
    assert weights_K.std() > 1e-3
    (torch.stack(losses_of(model(batch))) @ weights_K).backward(inputs=shared)
    assert_equal(found, gradients(shared))


@pytest.mark.parametrize("method", ["ls", "cagrad"])
def test_mtans_nested_features_carry_the_trunks_gradient_exactly(method: str) -> None:
    """The 20 maps lie behind each other; `down` and `up`, which are shared past them, are frozen."""
    model, batch = small("mtan")
    assert isinstance(model, MTAN)
    model.down.requires_grad_(False)
    model.up.requires_grad_(False)
    shared = list(model.trunk.parameters())
    pairs = zip(model.branches, model.heads, strict=True)
    own = [[*branch.parameters(), *head.parameters()] for branch, head in pairs]
    outputs = model(batch)
    assert len({feature.data_ptr() for feature in outputs.features}) == 20
    surgery = Surgery(method, 3)
    surgery.backward(losses_of(outputs), shared, own, features=outputs.features)
    found, weights_K = gradients(shared), surgery.diagnostics()["weights_K"].double()
    assert (weights_K.std() > 1e-3) == (method == "cagrad")
    (torch.stack(losses_of(model(batch))) @ weights_K).backward(inputs=shared)
    assert_equal(found, gradients(shared))


def test_mtans_down_and_up_get_the_weights_that_the_method_finds_at_the_features() -> None:
    model, batch = small("mtan")
    assert isinstance(model, MTAN)
    surgery, outputs = Surgery("cagrad", 3), model(batch)
    losses = losses_of(outputs)
    surgery.backward(losses, features=outputs.features)
    named = list(model.named_parameters())
    found, weights_K = gradients([parameter for _, parameter in named]), surgery.diagnostics()["weights_K"]
    jacobian_KZ = by_the_maps(model, batch)
    torch.testing.assert_close(weights_K, surgery.method.weights(jacobian_KZ @ jacobian_KZ.T, torch.stack(losses)))
    assert weights_K.std() > 1e-3
    for is_own, factors_K in [(False, weights_K), (True, torch.ones_like(weights_K))]:
        (torch.stack(losses_of(model(batch))) @ factors_K).backward()
        wanted = gradients([parameter for _, parameter in named])
        picked = [key.startswith(("heads", "branches")) == is_own for key, _ in named]
        assert_equal(list(compress(found, picked)), list(compress(wanted, picked)))


def by_the_maps(model: MTAN, batch: Tensor) -> Tensor:
    """[K, Z]: the tasks' gradients by the trunk's maps, which the branches read as copies that are cut off from it."""
    maps = Maps(*([tensor.detach().requires_grad_() for tensor in level] for level in model.trunk(batch)))
    pairs = zip(model.branches, model.heads, strict=True)
    losses = losses_of(Outputs([head(branch(maps, model.down, model.up)) for branch, head in pairs], ()))
    read = [tensor for level in maps for tensor in level]
    rows = [torch.autograd.grad(loss, read, retain_graph=True, allow_unused=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row if g is not None]) for row in rows])


def test_samgs_has_no_weights_for_mtans_down_and_up() -> None:
    model, batch = small("mtan")
    outputs = model(batch)
    with pytest.raises(MethodError, match=r"samgs: a loss reaches a shared parameter .* past the features"):
        Surgery("samgs", 3).backward(losses_of(outputs), features=outputs.features)
