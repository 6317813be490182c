"""Delta-m: the relative loss against single-task learning, in per cent; lower is better.

For metric m with value M_m and baseline B_m, Delta_m = s_m (M_m - B_m) / B_m * 100, where s_m = -1 if higher is better
(Maninis et al., Attentive Single-Tasking of Multiple Tasks, CVPR 2019). The papers of the surgery methods average over
metrics, which gives the five metrics of NYUv2's normals 5/9 of the weight; Maninis et al. average within a task first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments_vision.errors import VisionError
from experiments_vision.tasks import TASKS

if TYPE_CHECKING:
    from experiments_vision.contract import MetricSpec

_CELEBA_F1 = (
    0.6736886, 0.68121034, 0.81524944, 0.5760289, 0.7205613, 0.8555076, 0.38203922, 0.58225113, 0.787647, 0.8321292,
    0.5029583, 0.68694085, 0.6781237, 0.5240381, 0.5161666, 0.95694304, 0.6968786, 0.67976356, 0.8808315, 0.8582131,
    0.97034, 0.93267566, 0.5057539, 0.40307626, 0.9703734, 0.48644206, 0.60786104, 0.5261031, 0.56907415, 0.59815097,
    0.6858371, 0.924108, 0.5424991, 0.7406311, 0.71019936, 0.87365365, 0.9305602, 0.33704284, 0.7647628, 0.91907,
)  # fmt: skip

_QM9_MAE = (0.0671, 0.1814, 60.576, 53.915, 0.5027, 4.539, 58.838, 64.244, 63.852, 66.223, 0.07212)

BASELINES: dict[str, dict[str, float]] = {
    "nyuv2": {
        "miou": 0.3830,
        "pixel_accuracy": 0.6376,
        "abs_error": 0.6754,
        "rel_error": 0.2780,
        "mean_angle": 25.01,
        "median_angle": 19.21,
        "within_11": 0.3014,
        "within_22": 0.5720,
        "within_30": 0.6915,
    },
    "cityscapes": {"miou": 0.7401, "pixel_accuracy": 0.9316, "abs_error": 0.0125, "rel_error": 27.77},
    "celeba": {f"f1_{name}": value for name, value in zip(TASKS["celeba"], _CELEBA_F1, strict=True)},
    "qm9": {f"mae_{name}": value for name, value in zip(TASKS["qm9"], _QM9_MAE, strict=True)},
}
"""Published single-task results by data set and metric, in our metrics' units: CAGrad (NYUv2, single-task SegNet),
Nash-MTL (Cityscapes, QM9), FAMO's authors (CelebA). MultiDigits has none: run `method=stl` for each task."""


def metric_deltas(
    values: Mapping[str, float], baseline: Mapping[str, float], metrics: Iterable[MetricSpec]
) -> dict[str, float]:
    """Delta-m of every metric in per cent; NaN where a value or its baseline is NaN or the baseline is 0.

    Raises:
        VisionError: A metric without a value, or without a baseline.
    """
    deltas = {}
    for metric in metrics:
        for what, numbers in (("value", values), ("baseline", baseline)):
            if metric.name not in numbers:
                raise VisionError(f"Delta-m: {metric.name} has no {what}; there are {', '.join(numbers) or 'none'}")
        base = baseline[metric.name]
        relative = (values[metric.name] - base) / base if base else math.nan
        deltas[metric.name] = 100 * (-relative if metric.higher_is_better else relative)
    return deltas


def task_deltas(deltas: Mapping[str, float], metrics: Sequence[MetricSpec]) -> dict[str, float]:
    """The mean of each task's own metrics, from `metric_deltas`."""
    by_task: dict[str, list[float]] = {}
    for metric in metrics:
        by_task.setdefault(metric.task, []).append(deltas[metric.name])
    return {task: mean(own) for task, own in by_task.items()}


def delta_m(values: Mapping[str, float], baseline: Mapping[str, float], metrics: Iterable[MetricSpec]) -> float:
    """The papers' Delta-m: the mean over all metrics, in per cent."""
    return mean(metric_deltas(values, baseline, metrics).values())


def delta_m_by_task(values: Mapping[str, float], baseline: Mapping[str, float], metrics: Sequence[MetricSpec]) -> float:
    """Delta-m with every task weighing the same: the mean over tasks of each task's mean, in per cent."""
    return mean(task_deltas(metric_deltas(values, baseline, metrics), metrics).values())


def mean(values: Iterable[float]) -> float:
    """The mean; NaN for none."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan
