"""The traits that the registry claims hold; those it does not claim have a counter-example that shows so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.registry import METHODS, TRAITS, Trait, make_method
from tests.methods.cases import CASES
from tests.methods.cases.case import Case
from tests.methods.jacobians import direction, jacobians, turn

CLAIMS = [(label, trait) for label, case in CASES.items() for trait in case.holds]
REFUTED = [(label, trait) for label, case in CASES.items() for trait in case.counterexamples]


def direct(case: Case, matrix: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The direction of a method that has seen `case.warm_up` calls."""
    method: AnyMethod = make_method(case.config, len(matrix), 0)
    for step in range(case.warm_up):
        turn(method, step, *matrix.shape)
    return direction(method, matrix, losses).numpy()


def close(left: np.ndarray, right: np.ndarray, scale: float, rtol: float) -> bool:
    return bool(np.linalg.norm(left - right) <= rtol * scale)


def conflicts_with_nobody(case: Case, matrix: np.ndarray, rng: np.random.Generator) -> bool:
    d = direct(case, matrix, np.ones(len(matrix)))
    norm_K = np.linalg.norm(matrix, axis=1)
    return bool((matrix @ d >= -case.rtol * norm_K * (np.linalg.norm(d) + 1e-3 * norm_K.max())).all())


def ignores_the_order(case: Case, matrix: np.ndarray, rng: np.random.Generator) -> bool:
    losses, order = np.linspace(1, 2, len(matrix)), rng.permutation(len(matrix))
    one = direct(case, matrix, losses)
    two = direct(case, matrix[order], losses[order])
    return close(one, two, max(np.linalg.norm(one), 1e-3 * np.linalg.norm(matrix)), case.rtol)


def is_homogeneous(case: Case, matrix: np.ndarray, rng: np.random.Generator) -> bool:
    losses = np.ones(len(matrix))
    one, two = direct(case, matrix, losses), direct(case, 2 * matrix, losses)
    return close(2 * one, two, max(np.linalg.norm(two), 1e-3 * np.linalg.norm(matrix)), case.rtol)


def is_linear(case: Case, matrix: np.ndarray, rng: np.random.Generator) -> bool:
    losses = np.ones(len(matrix))
    a_K1, b_K1 = rng.uniform(0.3, 3, (2, len(matrix), 1))
    parts = direct(case, a_K1 * matrix, losses) + direct(case, b_K1 * matrix, losses)
    whole = direct(case, (a_K1 + b_K1) * matrix, losses)
    return close(parts, whole, max(np.linalg.norm(whole), 1e-3 * np.linalg.norm(matrix)), case.rtol)


def ignores_scales(case: Case, matrix: np.ndarray, rng: np.random.Generator) -> bool:
    losses, scale_K1 = np.ones(len(matrix)), rng.uniform(0.3, 3, (len(matrix), 1))
    one, two = direct(case, matrix, losses), direct(case, scale_K1 * matrix, losses)
    if min(np.linalg.norm(one), np.linalg.norm(two)) <= 1e-3 * np.linalg.norm(matrix):
        return True  # of a direction that is all but zero only rounding is left
    return close(one / np.linalg.norm(one), two / np.linalg.norm(two), 1.0, 10 * case.rtol)


HOLDS: dict[Trait, Callable[[Case, np.ndarray, np.random.Generator], bool]] = {
    "non-conflicting": conflicts_with_nobody,
    "equivariant": ignores_the_order,
    "homogeneous": is_homogeneous,
    "linear": is_linear,
    "scale-invariant": ignores_scales,
}


@pytest.mark.parametrize(("label", "trait"), CLAIMS)
def test_a_claimed_trait_holds(label: str, trait: Trait) -> None:
    @settings(max_examples=30, deadline=None)
    @given(matrix=jacobians(), seed=st.integers(0, 2**31))
    def check(matrix: np.ndarray, seed: int) -> None:
        assert HOLDS[trait](CASES[label], matrix, np.random.default_rng(seed))

    check()


@pytest.mark.parametrize(("label", "trait"), REFUTED)
def test_a_counterexample_shows_that_a_trait_does_not_hold(label: str, trait: Trait) -> None:
    case = CASES[label]
    matrix = np.array(case.counterexamples[trait], dtype=float)
    shown = [not HOLDS[trait](case, matrix, np.random.default_rng(seed)) for seed in range(5)]
    assert any(shown)


def test_every_trait_of_every_method_is_claimed_or_refuted() -> None:
    for name in METHODS:
        case = CASES[name]
        assert case.traits is None, f"{name}: the case of the defaults takes its traits from the registry"
        assert set(case.counterexamples) == set(TRAITS) - set(case.holds), name


def test_the_check_of_a_trait_can_fail() -> None:
    case = CASES["ls"]
    assert not conflicts_with_nobody(case, np.array([[1.0, 0.0], [-2.0, 0.5]]), np.random.default_rng(0))
    torch.testing.assert_close(direction(make_method(case.config, 2, 0), np.eye(2)), torch.full((2,), 0.5).double())
