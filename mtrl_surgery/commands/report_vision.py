"""What a report asks of the supervised benchmarks: their metrics, and the papers' tables with Delta-m."""

from __future__ import annotations

from functools import cache
from typing import Literal

from mtrl_surgery.reports.benchmarks import Benchmark, Metric, Scoring
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.tables import Table

_MODE: Literal["correct"] = "correct"
"""As the figures count: pooled over the split."""


def scoring_of(record: Record) -> Scoring:
    """The metrics of a supervised run's data set.

    Raises:
        VisionError: An unknown data set.
    """
    return _scoring(str(record.config["dataset"].get("name")))


@cache  # a dashboard asks again and again
def _scoring(dataset: str) -> Scoring:
    from experiments_vision.objectives.registry import judge as objective_of

    objective = objective_of(dataset)
    each = len(objective.metrics) == len(objective.tasks)
    metrics = tuple(
        Metric(
            spec.task if each else f"{spec.task}: {spec.label}", spec.task, spec.name, spec.higher_is_better, spec.scale
        )
        for spec in objective.metrics
    )
    kinds = dict.fromkeys(spec.name.removesuffix(f"_{spec.task}") for spec in objective.metrics)
    label = next(iter(kinds)).replace("_", " ") if len(kinds) == 1 else "metrics"
    return Scoring(metrics, f"{label} (test split, pooled)", tuple(objective.tasks))


def paper_tables(benchmark: Benchmark) -> dict[str, Table]:
    """The papers' results and Delta-m of a supervised benchmark; nothing for reinforcement learning."""
    if benchmark.kind != "supervised":
        return {}
    from experiments_vision.tables.collect import Wanted, tables

    return {f"paper_{name}": own for name, own in tables(benchmark.records, Wanted(_MODE)).items()}
