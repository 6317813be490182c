"""The measures of conflict, by hand and at their edges."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings

from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from tests.methods.jacobians import jacobians


def test_three_gradients_by_hand() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    measures = conflict_diagnostics(gradients @ gradients.T)
    assert measures["conflict_rate"] == 1 / 3
    assert measures["mean_cosine"] == -1 / 3
    assert measures["least_cosine"] == -1
    similarities = [2 * 2 / 5, 2 * 3 / 10, 2 * 6 / 13]
    np.testing.assert_allclose(measures["magnitude_similarity"], np.mean(similarities))
    np.testing.assert_allclose(measures["least_magnitude_similarity"], 0.6)
    assert measures["gradient_norm_K"].tolist() == [1, 2, 3]


@settings(max_examples=50, deadline=None)
@given(jacobians())
def test_bounds(gradients: np.ndarray) -> None:
    measures = conflict_diagnostics(torch.as_tensor(gradients @ gradients.T))
    assert all(value.isfinite().all() for value in measures.values())
    assert 0 <= measures["conflict_rate"] <= 1
    assert -1 - 1e-9 <= measures["least_cosine"] <= measures["mean_cosine"] + 1e-12 <= 1 + 1e-9
    assert 0 <= measures["least_magnitude_similarity"] <= measures["magnitude_similarity"] + 1e-12 <= 1 + 1e-9


def test_one_task_has_no_conflict() -> None:
    measures = conflict_diagnostics(torch.tensor([[4.0]]))
    assert measures["conflict_rate"] == 0
    assert measures["mean_cosine"] == measures["magnitude_similarity"] == 1
    assert measures["gradient_norm_K"] == 2


def test_zero_gradients_are_orthogonal_to_all() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    measures = conflict_diagnostics(gradients @ gradients.T)
    assert measures["conflict_rate"] == measures["mean_cosine"] == 0
    torch.testing.assert_close(measures["magnitude_similarity"], torch.tensor(1 / 3, dtype=torch.float64))


def test_a_gradient_that_is_not_a_number_shows() -> None:
    gradients = torch.tensor([[1.0, 0.0], [float("nan"), 0.0], [0.0, 1.0]])
    measures = conflict_diagnostics(gradients @ gradients.T)
    assert all(measures[name].isnan() for name in measures if name != "gradient_norm_K")
    assert measures["gradient_norm_K"].isnan().tolist() == [False, True, False]


def triad_of(cosine: float, ratio: float) -> float:
    """The rate of one pair: unit gradient, and one `ratio` as long at the angle."""
    gradients = torch.tensor([[1.0, 0.0], [ratio * cosine, ratio * (1 - cosine**2) ** 0.5]], dtype=torch.float64)
    return conflict_diagnostics(gradients @ gradients.T)["triad_rate"].item()


def test_the_triad_needs_more_conflict_than_similarity() -> None:
    """Theorem 2 (a): cosine <= -similarity; the similarity of lengths 1 and 10 is 20 / 101."""
    assert triad_of(-0.5, 10.0) == triad_of(-0.5, 0.1) == 1
    assert triad_of(-0.1, 10.0) == 0, "too little conflict for lengths that differ that little"
    assert triad_of(-0.5, 1.0) == triad_of(0.5, 10.0) == 0
    assert triad_of(-1.0, 2.0) == 1


def test_the_triad_needs_a_bound_of_one_on_the_curvature() -> None:
    """Theorem 2 (b): xi = (1 - cos^2) |a - b|^2 / |a + b|^2 <= l / L <= 1. Similarity just below .6, cosine -.6."""
    ratio = 3.001
    similarity = 2 * ratio / (1 + ratio**2)
    xi = (1 - 0.36) * (1 + 0.6 * similarity) / (1 - 0.6 * similarity)
    assert similarity < 0.6 and xi > 1, "(a) holds and (b) cannot"
    assert triad_of(-0.6, ratio) == 0
