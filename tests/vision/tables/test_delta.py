from __future__ import annotations

import math

import pytest

from experiments_vision.contract import MetricSpec
from experiments_vision.delta import BASELINES, delta_m, delta_m_by_task, metric_deltas, task_deltas
from experiments_vision.errors import VisionError

METRICS = (
    MetricSpec("hit", "a", True, "Hit"),
    MetricSpec("miss", "a", False, "Miss"),
    MetricSpec("error", "b", False, "Error"),
)
BASE = {"hit": 0.5, "miss": 2.0, "error": 10.0}


def test_by_hand() -> None:
    values = {"hit": 0.6, "miss": 3.0, "error": 9.0}
    deltas = metric_deltas(values, BASE, METRICS)
    assert deltas == pytest.approx({"hit": -20, "miss": 50, "error": -10})
    assert task_deltas(deltas, METRICS) == pytest.approx({"a": 15, "b": -10})
    assert delta_m(values, BASE, METRICS) == pytest.approx(20 / 3)
    assert delta_m_by_task(values, BASE, METRICS) == pytest.approx(2.5)


def test_the_baseline_itself_is_zero() -> None:
    assert delta_m(BASE, BASE, METRICS) == 0 == delta_m_by_task(BASE, BASE, METRICS)


def test_nan_spreads_and_a_zero_baseline_has_no_ratio() -> None:
    assert math.isnan(delta_m(BASE | {"hit": math.nan}, BASE, METRICS))
    assert math.isnan(delta_m(BASE, BASE | {"hit": 0.0}, METRICS))
    assert math.isnan(delta_m({}, {}, ()))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(VisionError, match="error has no value; there are hit"):
        delta_m({"hit": 1.0}, BASE, METRICS[::2])
    with pytest.raises(VisionError, match="hit has no baseline; there are none"):
        delta_m({"hit": 1.0}, {}, METRICS)


def test_baselines_are_whole() -> None:
    assert {name: len(values) for name, values in BASELINES.items()} == {
        "nyuv2": 9,
        "cityscapes": 4,
        "celeba": 40,
        "qm9": 11,
    }
    assert BASELINES["celeba"]["f1_Wearing_Necklace"] == 0.33704284 and BASELINES["qm9"]["mae_zpve"] == 4.539
