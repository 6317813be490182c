"""What `diagnostics()` says of the gradients: who fights whom, and where the direction points among them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mtrl_surgery import Surgery
from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.registry import find_method, make_method
from tests.library.models import Shared, grads, loop_jacobian


def assert_map(seen: dict[str, Tensor], jacobian_KP: Tensor) -> None:
    cosine_KK = cosine_similarity(jacobian_KP[:, None], jacobian_KP[None], dim=2)
    norm_K = jacobian_KP.norm(dim=1)
    torch.testing.assert_close(seen["cosine_KK"], cosine_KK)
    assert torch.equal(seen["conflict_KK"], (cosine_KK < 0).double())
    similarity_KK = 2 * norm_K[:, None] * norm_K / (norm_K[:, None].square() + norm_K.square())
    torch.testing.assert_close(seen["similarity_KK"], similarity_KK)


@pytest.mark.parametrize("micro", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ls", {}),
        ("uw", {"max_norm": 0.01}),
        ("pcgrad", {}),
        ("mgda", {"max_norm": 0.01}),
        ("cagrad", {"max_jacobian_bytes": 500}),
        ("samgs", {}),
        ("graddrop", {}),
    ],
)
def test_a_look_sees_the_tasks_gradients_and_the_direction(name: str, settings: dict[str, Any], micro: bool) -> None:
    model, surgery = Shared(), Surgery(name, num_tasks=3, **settings)
    jacobian_KP = loop_jacobian(model.losses(), model.shared)
    if micro:
        surgery.accumulate(model.losses(slice(0, 5)))
    surgery.backward(model.losses(slice(5, 12)) if micro else model.losses(), diagnose=True)
    seen = surgery.diagnostics()
    assert_map(seen, jacobian_KP)
    assert (seen["cosine_KK"] < -0.1).any() and (seen["cosine_KK"] > 0.1).any()
    torch.testing.assert_close(seen["alignment_K"], cosine_similarity(jacobian_KP, grads(model.shared)[None]))


@pytest.mark.parametrize("name", ["ls", "pcgrad", "samgs"])
def test_by_features_the_angles_are_theirs(name: str) -> None:
    model, surgery = Shared(), Surgery(name, num_tasks=3)
    features = model.trunk(model.x)
    losses = model.losses_from(features)
    jacobian_KZ = loop_jacobian(losses, [features])
    surgery.backward(losses, features=features, diagnose=True)
    seen = surgery.diagnostics()
    assert_map(seen, jacobian_KZ)
    if name == "samgs":
        method = make_method(find_method("samgs").config(), 3, seed=0)
        assert isinstance(method, JacobianMethod)
        direction_Z = method.direction(jacobian_KZ, jacobian_KZ @ jacobian_KZ.T, torch.stack(losses).detach())
    else:
        direction_Z = seen["weights_K"].double() @ jacobian_KZ
    torch.testing.assert_close(seen["alignment_K"], cosine_similarity(jacobian_KZ, direction_Z[None]))


def test_a_missing_task_has_no_angles() -> None:
    model, surgery = Shared(), Surgery("pcgrad", num_tasks=3)
    surgery.backward(model.losses())
    model.zero_grad()
    jacobian_KP = loop_jacobian(model.losses(), model.shared)
    losses = model.losses()
    surgery.backward([losses[0], None, losses[2]], diagnose=True)
    seen = surgery.diagnostics()
    here = torch.tensor([0, 2])
    assert_map({name: seen[name][here[:, None], here] for name in seen if name.endswith("_KK")}, jacobian_KP[here])
    torch.testing.assert_close(
        seen["alignment_K"][here], cosine_similarity(jacobian_KP[here], grads(model.shared)[None])
    )
    torch.testing.assert_close(seen["gradient_norm_K"][here], jacobian_KP[here].norm(dim=1))
    assert seen["cosine_KK"][1].isnan().all() and seen["cosine_KK"][:, 1].isnan().all()
    assert seen["alignment_K"][1].isnan() and seen["gradient_norm_K"][1].isnan()
    assert not seen["mean_cosine"].isnan()


def test_without_a_look_a_loss_weighting_has_seen_nothing() -> None:
    model, surgery = Shared(), Surgery("ls", num_tasks=3)
    assert surgery.diagnostics().keys() == {"direction_norm"}
    surgery.backward(model.losses(), diagnose=True)
    assert {"cosine_KK", "alignment_K"} <= surgery.diagnostics().keys()
    surgery.backward(model.losses())
    assert surgery.diagnostics().keys() == {"weights_K", "direction_norm"}
    other = Surgery("pcgrad", num_tasks=3)
    other.backward(model.losses())
    assert "cosine_KK" in other.diagnostics() and "alignment_K" not in other.diagnostics()


def test_the_former_name_of_diagnose_still_works() -> None:
    model, surgery = Shared(), Surgery("ls", num_tasks=3)
    with pytest.warns(DeprecationWarning, match="diagnose="):
        surgery.backward(model.losses(), look=True)
    assert "alignment_K" in surgery.diagnostics()
