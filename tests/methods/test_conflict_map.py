"""Maps of the pairs of tasks, the direction's cosine with each, and how rarely a long run writes them."""

from __future__ import annotations

import json
import math

import numpy as np
import torch
from hypothesis import given, settings

from mtrl_surgery.jacobian.conflict import alignment, conflict_diagnostics, conflict_map, map_due, map_row
from tests.methods.jacobians import jacobians


def test_three_gradients_by_hand() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    found = conflict_map(gradients @ gradients.T)
    assert found["cosine_KK"].tolist() == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]
    assert found["conflict_KK"].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(found["similarity_KK"], [[1, 0.8, 0.6], [0.8, 1, 12 / 13], [0.6, 12 / 13, 1]])
    row = map_row(found)
    assert row == {"cosine": [0, -1, 0], "similarity": [0.8, 0.6, 0.9231], "conflict": [0, 1, 0]}
    assert json.loads(json.dumps(row)) == row


@settings(max_examples=50, deadline=None)
@given(jacobians())
def test_the_maps_pairs_are_what_the_measures_average(gradients: np.ndarray) -> None:
    gramian = torch.as_tensor(gradients @ gradients.T)
    maps, measures = conflict_map(gramian), conflict_diagnostics(gramian)
    if len(gramian) == 1:
        assert map_row(maps) == {"cosine": [], "similarity": [], "conflict": []}
        return
    above = torch.triu_indices(len(gramian), len(gramian), 1).unbind()
    for name, measure in (
        ("cosine", "mean_cosine"),
        ("similarity", "magnitude_similarity"),
        ("conflict", "conflict_rate"),
    ):
        matrix = maps[f"{name}_KK"]
        assert torch.equal(matrix, matrix.T)
        torch.testing.assert_close(matrix[above].mean(), measures[measure])


def test_a_nan_gradient_is_seen_in_its_pairs_alone() -> None:
    gradients = torch.tensor([[1.0, 0.0], [math.nan, 1.0], [0.0, 1.0]])
    for matrix in conflict_map(gradients @ gradients.T).values():
        assert matrix[1].isnan().all() and not matrix[0, 2].isnan()


def test_alignment_is_the_cosine_with_the_direction() -> None:
    jacobian = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    direction = torch.tensor([0.5, 0.0])
    gramian = jacobian @ jacobian.T
    found = alignment(gramian, jacobian @ direction, direction.norm())
    np.testing.assert_allclose(found, [0.6, 0, -1], atol=1e-7)
    assert alignment(gramian, torch.zeros(3), torch.tensor(0.0)).tolist() == [0, 0, 0]
    theirs = torch.nn.functional.cosine_similarity(jacobian, direction[None])
    torch.testing.assert_close(found.float(), theirs)


def test_a_long_run_writes_ever_more_rarely_and_evenly() -> None:
    due = [number for number in range(1, 1025) if map_due(number)]
    assert due[:64] == list(range(1, 65))
    assert due[64:96] == list(range(66, 129, 2)) and due[96:128] == list(range(132, 257, 4))
    assert len(due) == 64 + 32 * 4
