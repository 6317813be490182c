"""Gradient surgery on a convex two-task problem: it ends where no direction lowers both losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrl_surgery.methods.alignedmtl import AlignedmtlConfig
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.cagrad import CagradConfig
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.dbmtl import DbmtlConfig
from mtrl_surgery.methods.graddrop import GraddropConfig
from mtrl_surgery.methods.imtl import ImtlConfig
from mtrl_surgery.methods.mgda import MgdaConfig
from mtrl_surgery.methods.moco import MocoConfig
from mtrl_surgery.methods.nashmtl import NashmtlConfig
from mtrl_surgery.methods.pcgrad import PcgradConfig
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.methods.samgs import SamgsConfig
from mtrl_surgery.methods.upgrad import UpgradConfig
from tests.methods.jacobians import direction

MINIMA = np.array([[1.0, 0.0], [-1.0, 0.5]])
CURVATURES = np.array([[1.0, 3.0], [20.0, 5.0]])  # the second task's gradients are ten times the first's
LIPSCHITZ = 25.0  # of the sum's gradient


def losses_and_gradients(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of f_k = 1/2 sum_j c_kj (x_j - m_kj)^2."""
    distance = point - MINIMA
    return 0.5 * (CURVATURES * distance**2).sum(axis=1), CURVATURES * distance


def conflict(gradients: np.ndarray) -> float:
    """The cosine of the two gradients: -1 at a Pareto-stationary point; also where one of them is zero."""
    lengths = np.linalg.norm(gradients, axis=1)
    return float(gradients[0] @ gradients[1] / lengths.prod()) if lengths.min() > 1e-6 else -1.0


def descend(config: MethodConfig, steps: int, rate: float) -> list[np.ndarray]:
    """The points of gradient descent with step sizes rate / sqrt(step)."""
    method, point = make_method(config, 2, 0), np.array([0.8, 3.0])
    path = [point]
    for step in range(steps):
        losses, gradients = losses_and_gradients(point)
        point = point - rate / (1 + step) ** 0.5 * direction(method, gradients, losses).numpy()
        path.append(point)
    return path


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (AlignedmtlConfig(), 0.1),
        (CagradConfig(), 0.1),
        (ImtlConfig(), 0.1),
        (MgdaConfig(), 0.1),
        (NashmtlConfig(), 0.1),
        (PcgradConfig(), 0.03),
        (UpgradConfig(), 0.05),
        (SamgsConfig(), 0.03),
        (SamgsConfig(gamma=0.0), 0.003),
        (MocoConfig(), 0.1),
        (MocoConfig(projection="softmax", normalize="loss"), 0.1),
        (DbmtlConfig(), 0.1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_two_quadratics_of_different_scales_end_at_a_pareto_stationary_point(config: MethodConfig, rate: float) -> None:
    path = descend(config, 1000, rate)
    _, before = losses_and_gradients(path[0])
    losses, after = losses_and_gradients(path[-1])
    assert conflict(before) > 0
    assert conflict(after) < -0.999
    assert (losses < losses_and_gradients(path[0])[0]).all()


def test_graddrop_hovers_about_the_least_sum() -> None:
    """With two tasks its expectation is the sum: pos * pos / (pos + neg) - neg * neg / (pos + neg) = pos - neg."""
    path = descend(GraddropConfig(), 2000, 0.02)
    middle = np.mean(path[-1000:], axis=0)
    np.testing.assert_allclose(middle, (CURVATURES * MINIMA).sum(axis=0) / CURVATURES.sum(axis=0), atol=0.01)
    assert conflict(losses_and_gradients(middle)[1]) < -0.998
    assert np.std(path[-1000:], axis=0).max() < 0.05


def test_pcgrad_theorem_1() -> None:
    """Convex losses and steps of 1 / L: the sum falls until it is minimal or the gradients are opposite."""
    method, point = make_method(PcgradConfig(), 2, 0), np.array([0.8, 3.0])
    assert isinstance(method, GramianWeighting)
    totals, cosines = [], []
    for _ in range(600):
        losses, gradients = losses_and_gradients(point)
        totals.append(losses.sum())
        cosines.append(conflict(gradients))
        gramian = torch.as_tensor(gradients @ gradients.T)
        point = point - method.weights(gramian, torch.as_tensor(losses)).numpy() @ gradients / LIPSCHITZ
    assert min(cosines) < 0, "the path conflicts somewhere"
    assert (np.diff(totals) <= 1e-12).all()
    best = losses_and_gradients((CURVATURES * MINIMA).sum(axis=0) / CURVATURES.sum(axis=0))[0].sum()
    assert totals[-1] == pytest.approx(best, rel=1e-4) or cosines[-1] < -0.999
