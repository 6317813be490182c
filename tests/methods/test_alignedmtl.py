"""Aligned-MTL against TorchJD, the SVD of its paper and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg.lapack import dgejsv
from torchjd.aggregation import AlignedMTL as TorchJDAlignedMTL

from mtrl_surgery.methods._solvers import unit_gramian
from mtrl_surgery.methods._solvers.arrays import NUMPY, TORCH
from mtrl_surgery.methods.alignedmtl import AlignedmtlConfig
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import make_method
from tests.methods.exact import aligned, distance
from tests.methods.jacobians import KINDS, direction, jacobian, lengths, units

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
    with pytest.raises(MethodError, match=r"alignedmtl\.preference=.*one for each of the 3 tasks"):
        make_method(AlignedmtlConfig(preference=[1.0, 2.0]), 3, 0)


def test_condition_and_rank_are_diagnostics() -> None:
    gradients = np.diag([4.0, 2.0, 1.0])
    gradients[2] = gradients[1]
    method = make_method(AlignedmtlConfig(), 3, 0)
    direction(method, gradients)
    assert method.diagnostics()["rank"] == 2
    assert method.diagnostics()["condition"] == pytest.approx(4 / np.sqrt(8))


@every_mode
@pytest.mark.parametrize("kind", ["gaussian", "conflicting", "aligned"])
@pytest.mark.parametrize("tasks", [1, 2, 6, 10, pytest.param(50, marks=pytest.mark.slow)])
def test_lengths_of_twenty_orders_of_magnitude_leave_the_direction_exact(kind: str, tasks: int, mode: str) -> None:
    """To 9 digits of a direction as long as the shortest gradient, 1e-20 of the longest: the page's bound."""
    for orders in (10,) if tasks == 50 else (3, 10):
        gradients = units(jacobian(kind, tasks, 2 * tasks, 1)) * lengths(tasks, orders)
        method = make_method(AlignedmtlConfig(scale_mode=mode), tasks, 0)
        result = direction(method, gradients).numpy()
        assert distance(result, *aligned(gradients, tasks, mode)) <= 1e-9
        assert method.diagnostics()["rank"] == tasks
        assert method.diagnostics()["condition"] >= (10.0 ** (2 * orders) if tasks > 1 else 1)


@pytest.mark.parametrize("tasks", [2, 6, 10])
def test_float32_gradients_of_all_lengths_count(tasks: int) -> None:
    """Gradients 1e-20 of the longest, whose directions a float32 Gramian tells to 7 digits."""
    matrix = (units(jacobian("gaussian", tasks, 2 * tasks, 1)) * lengths(tasks)).astype(np.float32)
    method = make_method(AlignedmtlConfig(), tasks, 0)
    result = direction(method, matrix, dtype=torch.float32).numpy()
    assert distance(result, *aligned(matrix, tasks, "min")) <= 1e-5
    assert method.diagnostics()["rank"] == tasks


def dependent(tasks: int, rank: int, orders: int) -> np.ndarray:
    """Gradients of that rank to the last bit: small whole numbers, with powers of two as lengths."""
    rng = np.random.default_rng(1)
    odd = 2 * rng.integers(-4, 4, (tasks, rank)) + 1
    matrix = odd @ rng.integers(-4, 5, (rank, 2 * tasks))
    assert np.linalg.matrix_rank(matrix) == rank
    return matrix * 2.0 ** rng.permutation(np.linspace(-orders, orders, tasks).round())[:, None]


@every_mode
@pytest.mark.parametrize("orders", [0, 12, 20])
@pytest.mark.parametrize(
    ("tasks", "rank"), [(2, 1), (4, 2), (6, 5), (10, 5), pytest.param(50, 25, marks=[pytest.mark.slow])]
)
def test_dependent_gradients_of_different_lengths(tasks: int, rank: int, orders: int, mode: str) -> None:
    gradients = dependent(tasks, rank, orders)
    method = make_method(AlignedmtlConfig(scale_mode=mode), tasks, 0)
    result = direction(method, gradients).numpy()
    assert distance(result, *aligned(gradients, rank, mode)) <= 1e-9
    assert method.diagnostics()["rank"] == rank


def test_beside_dependent_gradients_those_below_rounding_are_taken_for_none() -> None:
    gradients = np.array([[1e10, 1e10, 0.0], [1e10, 1e10, 0.0], [0.0, 0.0, 1e-10]])
    method = make_method(AlignedmtlConfig(), 3, 0)
    torch.testing.assert_close(direction(method, gradients), torch.tensor([2e10, 2e10, 0.0]).double())
    assert method.diagnostics()["rank"] == 1


def test_the_official_rank_takes_short_gradients_for_none() -> None:
    gradients = np.diag([1e10, 1.0, 1e-10])
    method = make_method(AlignedmtlConfig(rank_of="gramian"), 3, 0)
    torch.testing.assert_close(direction(method, gradients), torch.tensor([1e10, 0, 0]).double())
    assert method.diagnostics()["rank"] == 1
    every = make_method(AlignedmtlConfig(), 3, 0)
    torch.testing.assert_close(
        direction(every, gradients), torch.full((3,), 1e-10, dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert every.diagnostics()["rank"] == 3
    theirs = TorchJDAlignedMTL()(torch.as_tensor(gradients)) * 3
    torch.testing.assert_close(direction(method, gradients), theirs)


def test_a_decomposition_that_has_not_settled_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsettled(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return (*dgejsv(*args, **kwargs)[:5], 1)

    monkeypatch.setattr("scipy.linalg.lapack.dgejsv", unsettled)
    assert direction(make_method(AlignedmtlConfig(), 3, 0), jacobian("gaussian", 3, 9, 0)).isnan().all()


@pytest.mark.parametrize("orders", [0, 2, 6])
def test_the_decomposition_for_devices_is_right_to_rounding_of_the_longest(orders: int) -> None:
    matrix = jacobian("gaussian", 6, 6, 0) * lengths(6, orders).T
    for library, given in ((NUMPY, matrix), (TORCH, torch.as_tensor(matrix))):
        values, vectors = (np.asarray(part) for part in unit_gramian.graded_svd(library, given))
        assert (np.diff(values) < 0).all()
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-12)
        lengths_K = np.linalg.norm(matrix @ vectors, axis=0)
        np.testing.assert_allclose(lengths_K, values, atol=1e-14 * values[0], rtol=1e-12 if library is NUMPY else 0)
