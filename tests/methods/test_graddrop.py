"""GradDrop against Alg. 1 written out, TorchJD's, and its random numbers against chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradDrop as TheirGradDrop

from mtrl_surgery.methods import _common, graddrop
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.graddrop import GradDrop, GraddropConfig, PositionNoise, kept_signs
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import KINDS, direction, jacobian

CPU = torch.device("cpu")


def symmetric_uniform(key_2: Tensor, start: int, count: int) -> Tensor:
    """1 - 2 U, for the U that Alg. 1 compares with."""
    return PositionNoise(key_2, count).at(start, count).double() * 2.0**-15


def make(tasks: int, seed: int = 0, **options: Any) -> GradDrop:
    method = make_method(GraddropConfig(**options), tasks, seed)
    assert isinstance(method, GradDrop)
    return method


def next_uniforms(tasks: int, seed: int, count: int, calls: int = 1) -> list[Tensor]:
    """The numbers in (0, 1] that a method of that seed compares with in its first calls."""
    twin = make(tasks, seed)
    return [(1 - symmetric_uniform(twin._key(CPU), 0, count)) / 2 for _ in range(calls)]


def literal(gradients: np.ndarray, uniforms: np.ndarray, leak: list[float]) -> np.ndarray:
    """Alg. 1, lines 10 to 15, one coordinate and one task at a time."""
    result = np.zeros(gradients.shape[1])
    for column, uniform in enumerate(uniforms):
        values = gradients[:, column]
        purity = 0.5 * (1 + values.sum() / np.abs(values).sum())
        for value, share in zip(values, leak, strict=True):
            kept = (purity > uniform and value > 0) or (purity < uniform and value < 0)
            result[column] += (share + (1 - share) * kept) * value
    return result


@pytest.mark.parametrize("leak", [[0.0], [0.3], [0.1, 0.0, 0.9, 1.0]])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_draws_give_the_algorithm(kind: str, leak: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: 40)  # 10 columns at a time, the last part is short
    sums, means = make(4, 5, leak=leak), make(4, 5, leak=leak, reduction="mean")
    for step, uniforms in enumerate(next_uniforms(4, 5, 27, calls=8)):
        matrix = jacobian(kind, 4, 27, step)
        expected = literal(matrix, uniforms.numpy(), leak * (4 // len(leak)))
        np.testing.assert_allclose(direction(sums, matrix).numpy(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(direction(means, matrix).numpy(), expected / 4, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("leak", [None, [0.1, 0.0, 0.5]])
def test_the_same_draws_give_torchjds_answer(leak: list[float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.as_tensor(jacobian("gaussian", 3, 500, 0))
    ours = direction(make(3, 7, leak=leak or [0.0]), matrix)
    (uniforms,) = next_uniforms(3, 7, 500)
    theirs = TheirGradDrop(leak=None if leak is None else torch.tensor(leak, dtype=torch.float64))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: uniforms)
    torch.testing.assert_close(ours, theirs(matrix))


def test_signs_are_as_likely_as_the_paper_says() -> None:
    """Gradients p and p - 1 give the purity p: the positive one is kept with that probability, here and by TorchJD."""
    purities, repeats = torch.tensor([0.0, 0.02, 0.3, 0.5, 0.77, 1.0]), 20000
    purity_P = purities.repeat_interleave(repeats)
    matrix = torch.stack([purity_P, purity_P - 1])
    torch.manual_seed(0)
    for result in (direction(make(2), matrix, dtype=torch.float32), TheirGradDrop()(matrix)):
        shares = (result > 0).double().view(-1, repeats).mean(dim=1)
        spread = (purities * (1 - purities) / repeats).sqrt()
        assert ((shares - purities).abs() <= 5 * spread).all()
    assert (result != 0).all()


def test_the_mean_over_draws_is_the_expectation() -> None:
    matrix = jacobian("gaussian", 3, 6, 0)
    method, draws = make(3), 4000
    results = torch.stack([direction(method, matrix) for _ in range(draws)])
    positive = np.maximum(matrix, 0).sum(axis=0)
    negative = np.minimum(matrix, 0).sum(axis=0)
    purity = positive / (positive - negative)
    expected = purity * positive + (1 - purity) * negative
    spread = np.sqrt(purity * (1 - purity)) * (positive - negative) / np.sqrt(draws)
    assert (np.abs(results.mean(dim=0).numpy() - expected) <= 5 * spread + 1e-12).all()


def chi_square(counts: Tensor) -> float:
    """How far counts are from even ones, in standard deviations of the statistic."""
    even = float(counts.sum()) / len(counts)
    freedom = len(counts) - 1
    statistic = float(((counts.double() - even) ** 2 / even).sum())
    return float((statistic - freedom) / np.sqrt(2 * freedom))


def bins(uniform_C: Tensor, number: int) -> Tensor:
    """Which of some equal parts of [-1, 1) each number is in."""
    return ((uniform_C + 1) / 2 * number).long()


KEYS = [(0, 0), (1, 0), (0, 1), (2**31 - 1, 2**31 - 1), (123456789, 987654321)]


@pytest.mark.parametrize("start", [0, 1, 655_999, 2**31 - 2**18, 2**32 - 100, 5 * 2**32])
@pytest.mark.parametrize("key", KEYS)
def test_numbers_are_uniform(key: tuple[int, int], start: int) -> None:
    uniform_C = symmetric_uniform(torch.tensor(key, dtype=torch.int32), start, 2**18)
    assert torch.equal(uniform_C.float().double(), uniform_C), "float32 holds them"
    assert uniform_C.min() >= -1
    assert uniform_C.max() < 1
    assert abs(chi_square(bins(uniform_C, 256).bincount(minlength=256))) < 6
    low_bits = (uniform_C * 2**15).long() % 64
    assert abs(chi_square(low_bits.bincount(minlength=64))) < 6


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 256, 1000, 2**16])
@pytest.mark.parametrize("key", KEYS)
def test_columns_are_independent(key: tuple[int, int], lag: int) -> None:
    part_C = bins(symmetric_uniform(torch.tensor(key, dtype=torch.int32), 0, 2**18), 16)
    pairs = (part_C[:-lag] * 16 + part_C[lag:]).bincount(minlength=256)
    assert abs(chi_square(pairs)) < 6


def test_three_neighbours_are_independent() -> None:
    part_C = bins(symmetric_uniform(torch.tensor((5, 6), dtype=torch.int32), 0, 2**18), 8)
    triples = (part_C[:-2] * 64 + part_C[1:-1] * 8 + part_C[2:]).bincount(minlength=512)
    assert abs(chi_square(triples)) < 6


@pytest.mark.parametrize("other", ["call", "seed", "first word"])
def test_calls_and_seeds_are_independent(other: str) -> None:
    if other == "call":
        first, second = next_uniforms(2, 0, 2**18, calls=2)
    elif other == "seed":
        (first,), (second,) = next_uniforms(2, 0, 2**18), next_uniforms(2, 1, 2**18)
    else:
        keys = torch.tensor([(4, 4), (5, 4)], dtype=torch.int32)
        first, second = ((1 - symmetric_uniform(key, 0, 2**18)) / 2 for key in keys)
    pairs = (bins(1 - 2 * first, 16) * 16 + bins(1 - 2 * second, 16)).bincount(minlength=256)
    assert abs(chi_square(pairs)) < 6


def test_a_column_is_uniform_over_calls_and_independent_of_its_last_draw() -> None:
    method, draws = make(2), 4096
    uniform_NC = torch.stack([symmetric_uniform(method._key(CPU), 41, 3) for _ in range(draws)])
    for column in range(3):
        part_N = bins(uniform_NC[:, column], 8)
        assert abs(chi_square(part_N.bincount(minlength=8))) < 6
        assert abs(chi_square((part_N[:-1] * 8 + part_N[1:]).bincount(minlength=64))) < 6


def test_the_number_of_a_column_does_not_depend_on_where_the_slice_begins() -> None:
    key_2 = torch.tensor((8, 9), dtype=torch.int32)
    noise = PositionNoise(key_2, 20)
    for begin in (0, 2**31 - 50, 2**32 - 50):
        whole = symmetric_uniform(key_2, begin, 95)
        parts = [noise.at(begin + start, 19).double() * 2.0**-15 for start in range(0, 95, 19)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("length", [1.0, 1.0000001, 1.5, 1.9999999, 3.3e-7, 7.7e11])
def test_the_extreme_numbers_keep_what_all_tasks_agree_on(length: float) -> None:
    noise_C = torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16)
    for dtype in (torch.float32, torch.float64):
        length_C = torch.full((2,), length, dtype=dtype)
        for sign in (1, -1):
            assert kept_signs(noise_C, sign * length_C, length_C, torch.empty_like(length_C)).tolist() == [sign, sign]


def literal_features(jacobian_KBZ: np.ndarray, features_BZ: np.ndarray, uniforms: Tensor, leak: list[float]) -> Any:
    """Alg. 1 as published: one feature, one task and one sample at a time."""
    tasks, batch, width = jacobian_KBZ.shape
    result = np.zeros((batch, width))
    for feature in range(width):
        pulls = [(np.sign(features_BZ[:, feature]) * jacobian_KBZ[k, :, feature]).sum() for k in range(tasks)]
        strength = sum(abs(pull) for pull in pulls)
        purity = 0.5 * (1 + sum(pulls) / strength) if strength else 0.5
        uniform = float(uniforms[feature])
        for k, pull in enumerate(pulls):
            kept = (purity > uniform and pull > 0) or (purity < uniform and pull < 0)
            for sample in range(batch):
                result[sample, feature] += (leak[k] + (1 - leak[k]) * kept) * jacobian_KBZ[k, sample, feature]
    return result


@pytest.mark.parametrize("leak", [[0.0], [0.1, 0.0, 0.9, 1.0]])
def test_the_published_form_on_features(leak: list[float]) -> None:
    rng = np.random.default_rng(0)
    sums, means = make(4, 5, leak=leak), make(4, 5, leak=leak, reduction="mean")
    signs = []
    for uniforms in next_uniforms(4, 5, 6, calls=10):
        jacobian_KBZ, features_BZ = rng.standard_normal((4, 7, 6)), rng.standard_normal((7, 6))
        features_BZ[:, :3] = np.maximum(features_BZ[:, :3], 0)  # a ReLU: its zeros have no sign
        expected = literal_features(jacobian_KBZ, features_BZ, uniforms, leak * (4 // len(leak)))
        tensors = torch.as_tensor(jacobian_KBZ), torch.as_tensor(features_BZ)
        result = sums.feature_direction(*tensors)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(means.feature_direction(*tensors).numpy(), expected / 4, rtol=1e-9, atol=1e-12)
        signs += np.sign(expected).flatten().tolist()
    assert -1 in signs and 1 in signs


def test_one_sample_of_positive_features_is_the_form_on_parameters() -> None:
    matrix = torch.as_tensor(jacobian("gaussian", 3, 20, 0))
    by_features = make(3, 2).feature_direction(matrix[:, None], torch.ones(1, 20, dtype=torch.float64))
    torch.testing.assert_close(by_features[0], direction(make(3, 2), matrix))


def test_features_may_have_any_shape_and_no_sign() -> None:
    jacobian_KBZ, features_BZ = torch.ones(2, 5, 2, 3), torch.ones(5, 2, 3)
    features_BZ[:, 1, 2] = 0
    method = make(2)
    result = method.feature_direction(jacobian_KBZ, features_BZ)
    assert result.shape == (5, 2, 3)
    assert (result[:, 1, 2] == 0).all(), "dead in the whole batch: no task has a sign there"
    assert (result.flatten(1)[:, :5] == 2).all()
    torch.testing.assert_close(method.diagnostics()["weights_K"], torch.full((2,), 5 / 6))
    with pytest.raises(MethodError, match=r"jacobian_KBZ has shape \(2, 5, 2, 3\), expected \(2, 5, 6\)"):
        method.feature_direction(jacobian_KBZ, features_BZ.flatten(1))


@pytest.mark.parametrize("leak", [[0.0], [0.3], [1.0]])
def test_the_weights_of_the_log_are_the_nearest_scalars(leak: list[float]) -> None:
    matrix = jacobian("gaussian", 3, 40, 0)
    matrix[2] = 0
    method = make(3, 4, leak=leak)
    direction(method, matrix)
    (uniforms,) = next_uniforms(3, 4, 40)
    purity = 0.5 * (1 + matrix.sum(axis=0) / np.abs(matrix).sum(axis=0))
    kept = np.where(purity > uniforms.numpy(), matrix > 0, matrix < 0)
    parts = (leak[0] + (1 - leak[0]) * kept) * matrix
    for k in range(2):
        fit = parts[k] @ matrix[k] / (matrix[k] @ matrix[k])
        assert float(method.diagnostics()["weights_K"][k]) == pytest.approx(fit)


@pytest.mark.parametrize("elements", [2**11, 2**18])
def test_of_many_columns_some_are_looked_at_for_the_log(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All over the Jacobian: two kinds of columns lie in two blocks, and weights of either alone would be far off."""
    monkeypatch.setattr(_common, "chunk_elements", lambda device: elements)
    count, rng = 2**18, np.random.default_rng(0)
    matrix = rng.standard_normal((2, count))
    matrix[1, : count // 2] = 3 * matrix[0, : count // 2]  # in the one half both agree, in the other they fight
    matrix[1, count // 2 :] = -matrix[0, count // 2 :]
    sampled, whole = make(2, 1), make(2, 1)
    result = direction(sampled, matrix)
    weights_K = sampled.diagnostics()["weights_K"].numpy()
    with monkeypatch.context() as patch:
        patch.setattr(graddrop, "_LOOKED_AT", count)
        assert torch.equal(direction(whole, matrix), result)
    exact_K = whole.diagnostics()["weights_K"].numpy()
    assert 0 < np.abs(weights_K - exact_K).max() < 0.02
    assert exact_K[0] == pytest.approx(0.75, abs=0.01)
    matrix[0, 0] = np.nan  # not looked at
    direction(sampled, matrix)
    assert np.isnan(sampled.diagnostics()["weights_K"].numpy()).tolist() == [True, False]


def test_defined_answers() -> None:
    gradient = jacobian("gaussian", 1, 50, 0)
    torch.testing.assert_close(direction(make(1), gradient), torch.as_tensor(gradient[0]))
    same = direction(make(3), np.repeat(gradient, 3, axis=0))
    torch.testing.assert_close(same, torch.as_tensor(3 * gradient[0]))
    opposite = direction(make(2), np.concatenate([gradient, -gradient]))
    assert torch.equal(opposite.abs(), torch.as_tensor(np.abs(gradient[0]))), "one of the two, whole"
    everything = direction(make(4, leak=[1.0]), jacobian("gaussian", 4, 50, 0))
    torch.testing.assert_close(everything, torch.as_tensor(jacobian("gaussian", 4, 50, 0).sum(axis=0)))
    matrix = jacobian("gaussian", 3, 6, 0)
    matrix[:, 3] = 0
    assert direction(make(3), matrix)[3] == 0
    matrix[1, 2] = np.nan
    assert direction(make(3), matrix).isnan().tolist() == [False, False, True, False, False, False]


def test_what_all_tasks_agree_on_is_kept() -> None:
    """P is 0 or 1: nothing is dropped where all agree, whatever is drawn."""
    matrix = np.full((3, 2**18), -1.0)
    assert (direction(make(3), matrix) == -3).all()
    assert (direction(make(3), -matrix) == 3).all()


@pytest.mark.parametrize("leak", [[], [0.1, 0.2], [1.5], [-0.1], [float("nan")]])
def test_wrong_leaks_are_named(leak: list[float]) -> None:
    with pytest.raises(MethodError, match=r"graddrop\.leak=\["):
        make(3, leak=leak)
