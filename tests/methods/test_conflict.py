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
