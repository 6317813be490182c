"""IMTL-G against TorchJD, its defining equations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torchjd.aggregation import IMTLG as TorchJDIMTLG
from torchjd.aggregation import IMTLGWeighting

from mtrl_surgery.methods.imtl import ImtlConfig
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import DIRECTIONS, direction, jacobian, jacobians, lengths, units


@pytest.mark.parametrize("kind", ["gaussian", "conflicting", "aligned"])
@pytest.mark.parametrize("tasks", [1, 2, 6, 50])
def test_the_direction_is_torchjds(kind: str, tasks: int) -> None:
    gradients = torch.as_tensor(jacobian(kind, tasks, 2 * tasks, 5))
    ours = direction(make_method(ImtlConfig(), tasks, 0), gradients)
    torch.testing.assert_close(ours, TorchJDIMTLG()(gradients), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_is_torchjds_for_dependent_unit_gradients(seed: int) -> None:
    gradients = torch.as_tensor(jacobian("rank_deficient", 6, 12, seed))
    gradients /= gradients.norm(dim=1, keepdim=True)
    ours = direction(make_method(ImtlConfig(), 6, 0), gradients)
    torch.testing.assert_close(ours, TorchJDIMTLG()(gradients), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50])
def test_lengths_of_twenty_orders_of_magnitude_change_torchjds_answer_as_they_must(kind: str, tasks: int) -> None:
    """Projections ask for directions only: lengths c leave sum_k v_k u_k as it is, and divide it by sum_k v_k / c_k."""
    for seed in range(4):
        unit_KP, length_K1 = units(jacobian(kind, tasks, 2 * tasks, seed)), lengths(tasks)
        unit_weights_K = IMTLGWeighting()(torch.as_tensor(unit_KP @ unit_KP.T)).numpy()
        method = make_method(ImtlConfig(), tasks, 0)
        result = direction(method, unit_KP * length_K1).numpy()
        if (unit_weights_K == 0).all():  # opposite gradients
            assert method.diagnostics()["degenerate"] == 1
            assert (result == 0).all()
            continue
        expected = unit_weights_K @ unit_KP / (unit_weights_K / length_K1[:, 0]).sum()
        assert method.diagnostics()["degenerate"] == 0
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-8 * np.linalg.norm(expected))


@pytest.mark.parametrize("tasks", [2, 10, 50])
def test_projections_are_equal_and_weights_sum_to_one_whatever_the_scales(tasks: int) -> None:
    gradients = jacobian("gaussian", tasks, 2 * tasks, 1) * np.logspace(-10, 10, tasks)[:, None]
    method = make_method(ImtlConfig(), tasks, 0)
    result = direction(method, gradients).numpy()
    projections = gradients @ result / np.linalg.norm(gradients, axis=1)
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-8)
    assert method.diagnostics()["weights_K"].sum() == pytest.approx(1)
    assert method.diagnostics()["residual"] < 1e-8


@settings(max_examples=40, deadline=None)
@given(jacobians(least=2, most=2))
def test_two_tasks_in_closed_form(gradients: np.ndarray) -> None:
    """Each weight is the other gradient's share of the lengths."""
    lengths = np.linalg.norm(gradients, axis=1)
    method = make_method(ImtlConfig(), 2, 0)
    direction(method, gradients)
    if abs(gradients[0] @ gradients[1]) < (1 - 1e-6) * lengths.prod():
        weights = method.diagnostics()["weights_K"].numpy()
        np.testing.assert_allclose(weights, lengths[::-1] / lengths.sum(), rtol=1e-6)


def test_identical_gradients_get_equal_weights() -> None:
    method = make_method(ImtlConfig(), 3, 0)
    direction(method, np.stack([jacobian("gaussian", 1, 6, 0)[0]] * 3))
    np.testing.assert_allclose(method.diagnostics()["weights_K"], 1 / 3)


def test_opposite_gradients_have_no_weights_and_say_so() -> None:
    method = make_method(ImtlConfig(), 2, 0)
    assert (direction(method, np.array([[1.0, 2.0], [-3.0, -6.0]])) == 0).all()
    assert method.diagnostics()["degenerate"] == 1
    assert method.diagnostics()["weights_K"].tolist() == [0, 0]


def test_a_task_without_gradient_has_no_weight() -> None:
    gradients = jacobian("gaussian", 4, 9, 2)
    gradients[1] = 0
    method = make_method(ImtlConfig(), 4, 0)
    rest = direction(make_method(ImtlConfig(), 3, 0), gradients[[0, 2, 3]])
    torch.testing.assert_close(direction(method, gradients), rest)
    assert method.diagnostics()["weights_K"][1] == 0


def test_a_negative_sum_raises_every_loss_as_published() -> None:
    gradients = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.2, 0.0, 0.02]])
    assert (gradients @ direction(make_method(ImtlConfig(), 3, 0), gradients).numpy() < 0).all()


def test_imtlg_is_the_same_method() -> None:
    from mtrl_surgery.methods.registry import find_method

    assert find_method("imtlg") is find_method("imtl")
