"""What a report asks of the supervised benchmarks: their metrics, and the papers' tables with Delta-m."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mtrl_surgery.reports.benchmarks import Benchmark
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Metric, Yardstick
from mtrl_surgery.reports.tables import Table

_MODE: Literal["correct"] = "correct"
"""As the figures count: pooled over the split."""


def judge(record: Record) -> Yardstick:
    """The metrics of a supervised run's data set.

    Raises:
        VisionError: An unknown data set.
    """
    from experiments_vision.objectives.registry import judge as objective_of

    objective = objective_of(str(record.config["dataset"].get("name")))
    each = len(objective.metrics) == len(objective.tasks)
    metrics = tuple(
        Metric(
            spec.task if each else f"{spec.task}: {spec.label}", spec.task, spec.name, spec.higher_is_better, spec.scale
        )
        for spec in objective.metrics
    )
    kinds = dict.fromkeys(spec.name.removesuffix(f"_{spec.task}") for spec in objective.metrics)
    label = next(iter(kinds)).replace("_", " ") if len(kinds) == 1 else "metrics"
    return Yardstick(metrics, f"{label} (test split, pooled)", tuple(objective.tasks))


def paper_tables(benchmark: Benchmark) -> dict[str, Table]:
    """The papers' results and Delta-m of a supervised benchmark; nothing for reinforcement learning."""
    if benchmark.kind != "supervised":
        return {}
    from experiments_vision.tables.collect import Wanted, tables
    from experiments_vision.tables.runs import read_run

    runs, said = [], []
    for record in benchmark.records:
        try:
            run = read_run(record.path)
        except ValueError as error:
            said.append(f"left out: {error}")
        else:
            runs += [] if run is None else [run]
    made = tables(runs, Wanted(_MODE)) if runs else {}
    return {f"paper_{name}": replace(own, remarks=(*own.remarks, *said)) for name, own in made.items()}
