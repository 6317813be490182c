"""Aligned-MTL against TorchJD, the SVD of its paper and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchjd.aggregation import AlignedMTL as TorchJDAlignedMTL

from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.options.gramian import AlignedmtlConfig
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import KINDS, direction, jacobian

every_mode = pytest.mark.parametrize("mode", ["min", "median", "rmse"])


@every_mode
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [1, 2, 7, 50])
def test_the_direction_is_torchjds(kind: str, tasks: int, mode: str) -> None:
    gradients = torch.as_tensor(jacobian(kind, tasks, 2 * tasks, 5))
    ours = direction(make_method(AlignedmtlConfig(scale_mode=mode, reduction="mean"), tasks, 0), gradients)
    theirs = TorchJDAlignedMTL(scale_mode=mode)(gradients)  # type: ignore[arg-type]
    # Of eigenvalues 1e12 times smaller than the largest, float64 leaves four digits to either.
    rtol = 1e-3 if kind == "badly_scaled" else 1e-6
    torch.testing.assert_close(ours, theirs, rtol=0, atol=rtol * float(theirs.norm()))


@every_mode
@pytest.mark.parametrize("kind", ["gaussian", "conflicting", "aligned"])
def test_the_direction_is_that_of_the_singular_vectors(kind: str, mode: str) -> None:
    """The nearest orthogonal frame U V^T of the gradients, on one principal component's length."""
    gradients = jacobian(kind, 6, 15, 2)
    left, sigma, right = np.linalg.svd(gradients, full_matrices=False)
    length = {"min": sigma[-1], "median": sigma[3], "rmse": np.sqrt((sigma**2).mean())}[mode]
    result = direction(make_method(AlignedmtlConfig(scale_mode=mode), 6, 0), gradients).numpy()
    np.testing.assert_allclose(result, length * (left @ right).sum(axis=0), rtol=1e-6, atol=1e-8)


def test_orthogonal_gradients_of_one_length_are_added_up() -> None:
    result = direction(make_method(AlignedmtlConfig(), 3, 0), 2 * np.eye(3))
    torch.testing.assert_close(result, torch.full((3,), 2.0).double())


def test_a_preference_weighs_the_aligned_gradients() -> None:
    gradients = torch.as_tensor(jacobian("gaussian", 3, 9, 0))
    preference = [0.2, 0.5, 3.0]
    ours = direction(make_method(AlignedmtlConfig(preference=preference), 3, 0), gradients)
    theirs = TorchJDAlignedMTL(pref_vector=torch.tensor(preference).double())(gradients)
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(MethodError, match=r"alignedmtl\.preference=.*3 numbers"):
        make_method(AlignedmtlConfig(preference=[1.0]), 3, 0)


def test_condition_and_rank_are_diagnostics() -> None:
    gradients = np.diag([4.0, 2.0, 1.0])
    gradients[2] = gradients[1]
    method = make_method(AlignedmtlConfig(), 3, 0)
    direction(method, gradients)
    assert method.diagnostics()["rank"] == 2
    assert method.diagnostics()["condition"] == pytest.approx(4 / np.sqrt(8))


def test_gradients_below_the_gramians_precision_are_taken_for_none() -> None:
    gradients = np.diag([1e10, 1.0, 1e-10])
    method = make_method(AlignedmtlConfig(), 3, 0)
    torch.testing.assert_close(direction(method, gradients), torch.tensor([1e10, 0, 0]).double())
    assert method.diagnostics()["rank"] == 1
