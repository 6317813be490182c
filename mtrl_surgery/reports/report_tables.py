"""The tables of a report: summaries, published numbers, runs, configuration differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, interval
from mtrl_surgery.reports.figures.curves import NAMES, whole
from mtrl_surgery.reports.figures.health import durations
from mtrl_surgery.reports.figures.tasks import pooled
from mtrl_surgery.reports.labels import differences, flat, shown
from mtrl_surgery.reports.published import metaworld
from mtrl_surgery.reports.statistics import SUMMARIES, Summary, spread, summarise, title
from mtrl_surgery.reports.tables import Cell, Column, Section, Table

_WIDEST = 14
"""Tasks that fit side by side."""


def summary_table(benchmark: Benchmark, last: int = 5, aggregate: str = "iqm", confidence: float = 0.95) -> Table:
    """A row a method: the aggregate of each summary with its interval, the best final one first."""
    columns = [Column("method"), Column("seeds")]
    columns += [Column(title(how, last), 3, "higher") for how in SUMMARIES]
    means = durations(benchmark).groupby("method")["seconds"].mean().dropna()
    unit, each, digits = _unit(means.tolist())
    columns += [Column(f"{unit} a run", digits)]
    rows: list[tuple[Cell, ...]] = []
    for group in benchmark.groups:
        cells = [_aggregate(benchmark, group, how, last, aggregate, confidence) for how in SUMMARIES]
        spent = float(means[group.label]) / each if group.label in means else None
        rows.append((Cell(group.label), Cell(len(group.seeds_R)), *cells, Cell(spent)))
    # Single-task learning is no method to compare: it stands before the others.
    rows.sort(key=lambda row: (row[0].value != "stl", -row[2].value if isinstance(row[2].value, float) else np.inf))
    apart = sum(row[0].value == "stl" for row in rows)
    remarks = (
        f"{NAMES[aggregate].capitalize()} over seeds and tasks of the {benchmark.score}; in brackets the "
        f"{confidence:.0%} interval over seeds (Student's t, the bootstrap's standard error), none for a single seed.",
        "final: the last evaluation. max over training: the evaluation with the greatest mean over tasks, chosen by "
        "the scores that it reports and so biased upwards; most published numbers are of this kind.",
    )
    return Table(f"{benchmark.name}: summary", tuple(columns), (Section("", tuple(rows), apart),), remarks)


def task_table(benchmark: Benchmark, confidence: float = 0.95) -> Table:
    """Each task's last evaluation, all seeds pooled; methods as columns where there are many tasks."""
    digits = 2 if benchmark.kind == "rl" else 3
    columns = (Column("method"), *(Column(task, digits, "higher") for task in benchmark.tasks))
    rows = []
    groups = sorted(benchmark.groups, key=lambda group: group.label != "stl")
    for group in groups:
        ends = pooled(group, confidence)[["rate", "low", "high"]].to_numpy().tolist()
        rows.append((Cell(group.label), *(Cell(rate, interval=(low, high)) for rate, low, high in ends)))
    kind = (
        f"{confidence:.0%} Wilson intervals of the pooled episodes"
        if benchmark.kind == "rl"
        else "the worst and the best seed"
    )
    apart = sum(group.label == "stl" for group in groups)
    table = Table(
        f"{benchmark.name}: last evaluation, task by task",
        columns,
        (Section("", tuple(rows), apart),),
        (f"In brackets: {kind}.",),
    )
    return (
        table.transposed() if len(benchmark.tasks) > _WIDEST or len(benchmark.tasks) > len(benchmark.groups) else table
    )


def published_table(benchmark: Benchmark, of: str, last: int = 5) -> Table | None:
    """Our means over seeds beside published success rates, each under its protocol; None where there are none."""
    theirs = metaworld.published(of)
    if not theirs:
        return None
    columns = (Column("method"), Column("success", 3), Column("seeds"), Column("source"))
    sections = []
    for how in SUMMARIES:
        rows = []
        for group in benchmark.groups:
            scores_RK = whole(group, how, last)
            if len(scores_RK):
                mean, error, seeds = spread(scores_RK.mean(1))
                rows.append((Cell(group.label), Cell(mean, error), Cell(seeds), Cell("this report")))
        if rows:
            sections.append(Section(f"our runs, {title(how, last)}: {our_protocol(benchmark)}", tuple(rows)))
    for name in dict.fromkeys(row.protocol for row in theirs):
        own = [row for row in theirs if row.protocol == name]
        cells = [
            (
                Cell(row.method, notes=(row.remark,) if row.remark else ()),
                Cell(row.success, row.error),
                Cell(),
                Cell(row.source),
            )
            for row in own
        ]
        sections.append(Section(str(metaworld.protocols()[name]), tuple(cells)))
    remark = (
        "Only numbers under the same protocol may be compared: fixed goals, short episodes, V1 rewards and the maximum "
        "over training each lift the figure."
    )
    return Table(f"{benchmark.name}: published success rates beside ours", columns, tuple(sections), (remark,))


def our_protocol(benchmark: Benchmark) -> str:
    """How our own numbers were measured, from the configurations."""
    found = [_protocol(record.config) for record in benchmark.records]
    return "; ".join(dict.fromkeys(found))


def runs_table(benchmark: Benchmark) -> Table:
    """A row a run: how it stands, how long it took, what happened to it; only what is known of any."""
    found = durations(benchmark)
    unit, each, digits = _unit(found["seconds"].dropna().tolist())
    found[unit] = found["seconds"] / each
    every = (
        Column("run"), Column("method"), Column("seed"), Column("status"), Column("steps"), Column(unit, digits),
        Column("steps/s", 1), Column("lag", 1), Column("restarts"), Column("resumes"),
    )  # fmt: skip
    columns = tuple(column for column in every if found[column.name].notna().any())
    shown = found[[column.name for column in columns]].astype(object)
    body = tuple(tuple(map(Cell, row)) for row in shown.where(shown.notna(), None).itertuples(index=False))
    meanings = {
        "steps/s": "steps/s: the median over training.",
        "lag": "lag: updates between the weights that collected a chunk and the newest, on average.",
    }
    said = [meaning for name, meaning in meanings.items() if any(column.name == name for column in columns)]
    remark = " ".join([*said, "A run that was killed still says running."])
    return Table(f"{benchmark.name}: runs", columns, (Section("", body),), (remark,))


def differences_table(benchmark: Benchmark) -> Table | None:
    """The configuration keys in which runs differ, and each group's values; None where that is the method's name alone.

    The methods' own options are one entry: most methods have none of another's.
    """
    every = [flat(record.config) for record in benchmark.records]
    keys = list(differences([record.config for record in benchmark.records]))
    if all(group.label.startswith(group.method) for group in benchmark.groups):
        keys = [key for key in keys if key != "method.name"]
    if not keys:
        return None
    values = pd.DataFrame([{key: shown(own[key]) for key in keys if key in own} for own in every], columns=keys)
    labels = [group.label for group in benchmark.groups for _ in group.records]
    by_group = values.groupby(pd.Index(labels), sort=False)
    texts = by_group.agg(_different)
    options = [key for key in keys if key.startswith("method.") and key != "method.name"]
    if options:
        own = by_group[options].agg(_alternatives)
        said = [
            ", ".join(
                f"{key.removeprefix('method.')}={value}" for key, value in zip(options, row, strict=True) if value
            )
            for row in own.itertuples(index=False)
        ]
        texts = texts.drop(columns=options).assign(**{"method's options": [text or "-" for text in said]})
    # Many methods go downwards.
    head, frame = ("method", texts) if len(texts) > texts.shape[1] else ("key", texts.T)
    columns = (Column(head), *(Column(str(name)) for name in frame))
    rows = [tuple(map(Cell, row)) for row in frame.itertuples(name=None)]
    remark = (
        "Every key in which two runs differ, seeds and folders left out; - where a run's configuration lacks the key."
    )
    return Table(f"{benchmark.name}: configuration differences", columns, (Section("", tuple(rows)),), (remark,))


def _different(found: pd.Series[str]) -> str:
    return ", ".join(found.dropna().unique()) or "-"


def _alternatives(found: pd.Series[str]) -> str:
    return "|".join(sorted(found.dropna().unique()))


def _unit(seconds: Sequence[float]) -> tuple[str, float, int]:
    """What durations are told in, its seconds, and the digits after the point."""
    usual = float(np.median(seconds)) if len(seconds) else 0.0
    if usual < 100:
        return "seconds", 1.0, 1 if usual < 10 else 0
    return ("minutes", 60.0, 1) if usual < 5400 else ("hours", 3600.0, 1)


def _aggregate(benchmark: Benchmark, group: Group, how: Summary, last: int, aggregate: str, confidence: float) -> Cell:
    scores_RK = summarise(group.scores_TRK, how, last)
    there_R = np.asarray(np.isfinite(scores_RK).all(1))
    found = interval(
        scores_RK[there_R],
        AGGREGATES[aggregate],
        confidence,
        stratified=group.stratified,
        limits=benchmark.limits,
    )
    missing = len(there_R) - int(there_R.sum())
    notes = (f"{missing} of {len(there_R)} seeds have no whole evaluation",) if missing else ()
    if np.isnan(found.value):
        return Cell(None, notes=notes)
    return Cell(found.value, notes=notes, interval=(found.low, found.high))


def _protocol(config: Mapping[str, Any]) -> str:
    env, test = config.get("env") or {}, config.get("evaluation") or {}
    if not env:
        return "as configured"
    goals = env.get("num_goals")
    facts = (
        f"{env.get('kind')}, {str(env.get('reward_version')).upper()} rewards",
        "one fixed goal a task" if goals == 1 else f"{goals} goals a task",
        f"{env.get('horizon')} steps an episode",
        f"{config.get('total_steps'):,} vector steps, copies of a task: {env.get('copies', 1)}",
        f"{test.get('final_episodes')} deterministic episodes a task at the end",
    )
    return "; ".join(facts)
