"""A report on runs: as `python -m mtrl_surgery report`, with the supervised runs' metrics and the papers' tables.

usage: python -m experiments_vision report runs/vision [RUN ...] [out=report.html] [KEY=VALUE ...]

RUN         run folders, folders of run folders at any depth, or patterns such as 'runs/vision/nyuv2_*'; supervised and
            reinforcement learning runs alike; runs of the same tasks are compared, others have a chapter each

{keys}

Nothing is changed in the run folders; runs may still be running.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

from mtrl_surgery.commands.report import report
from mtrl_surgery.reports.benchmarks import Benchmark, Metric, Scoring
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.tables import Table

_MODE: Literal["correct"] = "correct"
"""The average in the figures: pooled over the split."""


def main(words: Sequence[str]) -> int:
    """Read the runs, write the page and its parts, say where."""
    return report(words, __doc__ or "", scoring_of, paper_tables)


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
    metrics = []
    for spec in objective.metrics:
        heading = spec.task if each else f"{spec.task}: {spec.label}"
        metrics.append(Metric(heading, spec.task, spec.name, spec.higher_is_better, spec.scale))
    kinds = dict.fromkeys(spec.name.removesuffix(f"_{spec.task}") for spec in objective.metrics)
    label = next(iter(kinds)).replace("_", " ") if len(kinds) == 1 else "metrics"
    return Scoring(tuple(metrics), f"{label} (test split, pooled)", tuple(objective.tasks))


def paper_tables(benchmark: Benchmark) -> dict[str, Table]:
    """The papers' results and Delta-m of a supervised benchmark; nothing for reinforcement learning."""
    if benchmark.kind != "supervised":
        return {}
    from experiments_vision.tables.collect import Wanted, tables

    return {f"paper_{name}": own for name, own in tables(benchmark.records, Wanted(_MODE)).items()}
