"""Medians and averages that never leave the device, against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments_vision.objectives.averages import Averages, Histogram, masked_median

ANGLES = st.lists(st.tuples(st.floats(0, 180, width=32), st.booleans()), min_size=1, max_size=40)


@given(ANGLES)
def test_the_masked_median_is_numpys(pairs: list[tuple[float, bool]]) -> None:
    values, valid = torch.tensor([v for v, _ in pairs]), torch.tensor([b for _, b in pairs])
    if valid.any():
        assert masked_median(values, valid).item() == pytest.approx(np.median(values[valid].numpy()), abs=1e-4)


def test_a_nan_counts_only_where_it_is_valid() -> None:
    values = torch.tensor([1.0, torch.nan, 3.0])
    assert masked_median(values, torch.tensor([True, False, True])).item() == 2
    assert math.isnan(masked_median(values, torch.tensor([True, True, True])).item())


@given(st.lists(ANGLES, min_size=1, max_size=3))
def test_the_histograms_median_is_within_its_error(batches: list[list[tuple[float, bool]]]) -> None:
    histogram = Histogram(0, 180, 3600)
    kept: list[float] = []
    for pairs in batches:
        values, valid = torch.tensor([v for v, _ in pairs]), torch.tensor([b for _, b in pairs])
        histogram.add(values, valid)
        kept += values[valid].tolist()
    if kept:
        assert histogram.error == 0.025
        assert abs(histogram.median() - np.median(kept)) <= histogram.error + 1e-3
    else:
        assert math.isnan(histogram.median())


def test_two_far_middles_are_averaged() -> None:
    histogram = Histogram(0, 180, 36_000)
    histogram.add(torch.tensor([0.0, 180.0]), torch.tensor([True, True]))
    assert histogram.median() == pytest.approx(90)


def test_a_valid_nan_is_no_median() -> None:
    histogram = Histogram(0, 180, 10)
    histogram.add(torch.tensor([1.0, torch.nan]), torch.tensor([True, False]))
    assert histogram.median() == pytest.approx(9)
    histogram.add(torch.tensor([torch.nan]), torch.tensor([True]))
    assert math.isnan(histogram.median())


def test_both_averages() -> None:
    averages = Averages(("first", "second"))
    averages.add(torch.tensor([2.0, 4.0]), torch.tensor(2))
    averages.add(torch.tensor([9.0, 0.0]), torch.tensor(1))
    averages.add(torch.tensor([torch.nan, 0.0]), torch.tensor(0))
    assert averages.compute() == {
        "batches": {"first": 5.0, "second": 1.0},
        "pooled": {"first": pytest.approx(11 / 3), "second": pytest.approx(4 / 3)},
    }
    averages.add(torch.tensor([torch.nan, 0.0]), torch.tensor(1))
    found = averages.compute()
    assert math.isnan(found["batches"]["first"]) and math.isnan(found["pooled"]["first"])
    assert not math.isnan(found["batches"]["second"])
