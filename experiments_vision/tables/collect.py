"""The papers' tables from our runs, with the published rows below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from experiments_vision.contract import MetricSpec, Objective
from experiments_vision.delta import BASELINES, delta_m_by_task, mean, metric_deltas, task_deltas
from experiments_vision.errors import VisionError
from experiments_vision.objectives.registry import judge
from experiments_vision.tables.groups import Group, baseline_of, group, time_ratio
from experiments_vision.tables.modes import Mode, Values
from experiments_vision.tables.published import DEFAULT_PAPER, PublishedRow, corrected, papers
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.statistics import spread
from mtrl_surgery.reports.tables import Cell, Column, Section, Table

WIDEST = 12
"""Metrics that fit side by side; of more (CelebA's 40) the results show the mean, and tables of their own the rest."""

SORTS = ("delta", "rank", "method", "time")

_SAID = {
    "paper": "as in the papers: averaged over batches",
    "correct": "pooled over the split, at the best validation epoch",
}


@dataclass(frozen=True)
class Wanted:
    """What kind of tables.

    Attributes:
        mode: Which epochs and averages count.
        baseline: `published`, `runs`, or empty: runs for a data set that no paper has, else published.
        sort: One of `SORTS` or a metric's name.
        paper: Whose rows to show: a paper's name, `all`, `none`, or empty for the default.
    """

    mode: Mode
    baseline: str = ""
    sort: str = "delta"
    paper: str = ""


def tables(runs: Sequence[Record], wanted: Wanted) -> dict[str, Table]:
    """The tables of one data set and model, by what they show: `results`, `delta`, and `metrics` if there are many.

    Raises:
        VisionError: A sort or a paper that this data set does not have.
    """
    dataset, model = str(runs[0].config["dataset"]["name"]), runs[0].config.get("model")
    objective = judge(dataset)
    _check(wanted, objective, dataset)
    groups, said = group(runs, objective, wanted.mode)
    own = (wanted.baseline or ("published" if dataset in BASELINES else "runs")) == "runs"
    if not own and dataset not in BASELINES:
        raise VisionError(f"baseline=published: no paper has single-task results of {dataset}; choose baseline=runs")
    baseline, why_not = baseline_of(groups, objective) if own else (BASELINES[dataset], None)
    shared = _Rows(objective, groups, {} if why_not else baseline, wanted, dataset)
    remarks = [f"Delta-m in per cent against {'our runs of method=stl' if own else 'published single-task results'}."]
    remarks = [why_not] if why_not else remarks
    if own and shared.published:
        remarks.append("The published Delta-m are against the published single-task results, not ours.")
    table = shared.results()
    title = f"{dataset}, {model}: {{}} ({_SAID[wanted.mode]})"
    made = {"results": replace(table, title=title.format("results"), remarks=(*remarks, *said))}
    if len(objective.metrics) > WIDEST:
        made["metrics"] = replace(shared.metrics().transposed(), title=title.format("every metric"))
    if baseline and not why_not:
        deltas = shared.deltas()
        deltas = deltas.transposed() if len(deltas.columns) > WIDEST + 4 else deltas
        made["delta"] = replace(deltas, title=title.format("Delta-m of every metric and task"), remarks=tuple(remarks))
    return made


class _Rows:
    """The rows that all tables of a data set and model share."""

    def __init__(
        self, objective: Objective, groups: Sequence[Group], baseline: Values, wanted: Wanted, dataset: str
    ) -> None:
        self.objective, self.groups, self.baseline, self._dataset = objective, groups, baseline, dataset
        self.specs = objective.metrics
        self.names = [spec.name for spec in self.specs]
        self.by_task = len(self.specs) > len(objective.tasks)
        self.published = _chosen(dataset, wanted.paper)
        ranked = [own for own in groups if not own.single and own.complete(self.names)]
        badness = [[own.metric(s.name).mean * (-1 if s.higher_is_better else 1) for s in self.specs] for own in ranked]
        ranks = pd.DataFrame(badness).rank(method="min", na_option="bottom").mean(axis=1)
        self.rank = dict(zip(map(id, ranked), ranks.tolist(), strict=True))
        self.apart = sum(own.single for own in groups)  # single-task learning is no method to compare
        self.order = sorted(groups, key=lambda own: self._place(own, wanted.sort))

    def results(self) -> Table:
        """A row a method: metrics, mean rank, Delta-m, seeds, time."""
        narrow = len(self.specs) <= WIDEST
        summary = not narrow or (len(self.specs) > 1 and len({spec.scale for spec in self.specs}) == 1)
        summary = summary and all(spec.higher_is_better for spec in self.specs)
        columns = [Column("method"), *(map(_column, self.specs) if narrow else ())]
        columns += [Column("mean", 2, "higher")] if summary else []
        columns += [Column("mean rank", 2, "lower"), Column("Delta-m", 2, "lower")]
        columns += [Column("Delta-m by task", 2, "lower")] if self.by_task else []
        columns += [Column("seeds"), Column("time/ls", 2)]
        rows = []
        for own in self.order:
            row = [Cell(str(own.label), notes=tuple(own.notes)), *(self._metrics(own) if narrow else ())]
            row += [self._summary(own)] if summary else []
            row += [Cell(self.rank.get(id(own))), *self._delta(own)]
            ratio = math.nan if own.single else time_ratio(own, self.groups)
            row += [Cell(len(own.seeds)), Cell(None if math.isnan(ratio) else ratio)]
            rows.append(tuple(row))
        sections = [Section("our runs", tuple(rows), self.apart)]
        for paper in dict.fromkeys(row.paper for row in self.published):
            theirs = [row for row in self.published if row.paper == paper]
            cells = [self._published(row, narrow, summary) for row in theirs]
            sections.append(Section(f"published in the {paper} paper", tuple(cells), _apart(theirs)))
        return Table("", tuple(columns), tuple(sections))

    def metrics(self) -> Table:
        """All metrics and nothing else."""
        rows = tuple((Cell(str(own.label), notes=tuple(own.notes)), *self._metrics(own)) for own in self.order)
        return Table("", (Column("metric"), *map(_column, self.specs)), (Section("", rows, self.apart),))

    def deltas(self) -> Table:
        """Delta-m of every metric, and of every task that has several."""
        columns = [Column("method"), *(Column(spec.label, 2, "lower") for spec in self.specs)]
        columns += [Column(f"task {task}", 2, "lower") for task in self.objective.tasks] if self.by_task else []
        rows = []
        for own in self.order:
            seeds = [metric_deltas(values, self.baseline, self.specs) for values in own.complete(self.names)]
            cells = [_over([found[name] for found in seeds]) for name in self.names]
            tasks = [task_deltas(found, self.specs) for found in seeds] if self.by_task else []
            cells += [_over([f[task] for f in tasks]) for task in self.objective.tasks] if self.by_task else []
            rows.append((Cell(str(own.label)), *cells))
        sections = [Section("our runs", tuple(rows), self.apart)]
        theirs = [row for row in self.published if all(name in row.numbers for name in self.names)]
        for paper in dict.fromkeys(row.paper for row in theirs):
            own_rows = [row for row in theirs if row.paper == paper]
            body = tuple(map(self._published_delta, own_rows))
            sections.append(Section(f"published in the {paper} paper", body, _apart(own_rows)))
        return Table("", tuple(columns), tuple(sections))

    def _metrics(self, own: Group) -> list[Cell]:
        found = [(own.metric(spec.name), spec.scale) for spec in self.specs]
        return [Cell(s.mean * k, s.error * k) if s.seeds else Cell() for s, k in found]

    def _summary(self, own: Group) -> Cell:
        scale = self.specs[0].scale
        return _over([scale * mean(values[name] for name in self.names) for values in own.complete(self.names)])

    def _delta(self, own: Group) -> list[Cell]:
        if not self.baseline:
            return [Cell()] * (2 if self.by_task else 1)
        seeds = [metric_deltas(values, self.baseline, self.specs) for values in own.complete(self.names)]
        cells = [_over([mean(found.values()) for found in seeds])]
        by_task = [mean(task_deltas(found, self.specs).values()) for found in seeds]
        return [*cells, _over(by_task)] if self.by_task else cells

    def _published(self, row: PublishedRow, narrow: bool, summary: bool) -> tuple[Cell, ...]:
        cells = [Cell(row.method), *(_number(row, name) for name in (self.names if narrow else ()))]
        cells += [Cell()] if summary else []
        cells += [_number(row, "mean_rank"), _number(row, "delta_m")]
        if self.by_task:
            values = {s.name: row.numbers[s.name].value / s.scale for s in self.specs if s.name in row.numbers}
            whole = len(values) == len(self.specs) and row.method != "STL"
            base = BASELINES.get(self._dataset, {})
            cells.append(Cell(delta_m_by_task(values, base, self.specs)) if whole else Cell())
        return (*cells, Cell(), Cell())

    def _published_delta(self, row: PublishedRow) -> tuple[Cell, ...]:
        values = {spec.name: row.numbers[spec.name].value / spec.scale for spec in self.specs}
        deltas = metric_deltas(values, BASELINES[self._dataset], self.specs)
        notes = [row.notes.get(name) for name in self.names]
        cells = [Cell(deltas[n], notes=(note,) if note else ()) for n, note in zip(self.names, notes, strict=True)]
        tasks = task_deltas(deltas, self.specs).values() if self.by_task else ()
        return (Cell(row.method), *cells, *map(Cell, tasks))

    def _place(self, own: Group, sort: str) -> tuple[bool, float, str]:
        """Single-task learning first; what has no number last."""
        key = math.nan
        if sort == "delta" and self.baseline:
            key = float(self._delta(own)[0].value or 0.0) if own.complete(self.names) else math.nan
        elif sort in ("delta", "rank"):
            key = self.rank.get(id(own), math.nan)
        elif sort == "time":
            key = time_ratio(own, self.groups)
        elif sort != "method":
            spec = next(spec for spec in self.specs if spec.name == sort)
            key = own.metric(sort).mean * (-1 if spec.higher_is_better else 1)
        return not own.single, math.inf if math.isnan(key) else key, str(own.label)


def _check(wanted: Wanted, objective: Objective, dataset: str) -> None:
    names = [spec.name for spec in objective.metrics]
    if wanted.sort not in (*SORTS, *names):
        raise VisionError(f"sort={wanted.sort} is unknown for {dataset}; choices: {', '.join((*SORTS, *names))}")
    choices = ("all", "none", *papers(dataset))
    if wanted.paper and wanted.paper not in choices:
        raise VisionError(f"published={wanted.paper} has no rows of {dataset}; choices: {', '.join(choices)}")


def _chosen(dataset: str, paper: str) -> list[PublishedRow]:
    wanted = paper or DEFAULT_PAPER.get(dataset, "none")
    return [row for row in corrected(dataset) if wanted in ("all", row.paper)]


def _apart(rows: Sequence[PublishedRow]) -> int:
    return sum(row.method == "STL" for row in rows)


def _column(spec: MetricSpec) -> Column:
    return Column(spec.label, spec.digits, "higher" if spec.higher_is_better else "lower")


def _over(values: Sequence[float]) -> Cell:
    found = spread(values)
    return Cell(found.mean, found.error) if found.seeds else Cell()


def _number(row: PublishedRow, name: str) -> Cell:
    note = row.notes.get(name)
    number = row.numbers.get(name)
    notes = (note,) if note else ()
    return Cell(number.value, number.error, notes) if number else Cell(notes=notes)
