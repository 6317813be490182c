"""What a report consists of, in order: for each benchmark its tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mtrl_surgery.reports.benchmarks import Benchmark
from mtrl_surgery.reports.bootstrap import AGGREGATES
from mtrl_surgery.reports.figures import conflicts, curves, health, tasks, versus
from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.published import metaworld
from mtrl_surgery.reports.records import ReportError
from mtrl_surgery.reports.report_tables import (
    differences_table,
    published_table,
    runs_table,
    summary_table,
    task_table,
)
from mtrl_surgery.reports.tables import Table


@dataclass(frozen=True)
class Options:
    """How runs are summarised.

    Attributes:
        aggregate: Over seeds and tasks: one of `AGGREGATES`.
        last: The k of the mean of the last k evaluations.
        confidence: Of all intervals.
        published: Whose published numbers to show: mt10, mt25, mt50, `none`, or empty for the runs' own benchmark.

    Raises:
        ReportError: A value that is none of these.
    """

    aggregate: str = "iqm"
    last: int = 5
    confidence: float = 0.95
    published: str = ""

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise ReportError(f"aggregate={self.aggregate}: choices: {', '.join(AGGREGATES)}")
        if self.last < 1:
            raise ReportError(f"last={self.last} must be at least 1")
        if not 0 < self.confidence < 1:
            raise ReportError(f"confidence={self.confidence} must be above 0 and below 1")
        choices = (*metaworld.benchmarks(), "none")
        if self.published and self.published not in choices:
            raise ReportError(f"published={self.published}: choices: {', '.join(choices)}")


@dataclass(frozen=True)
class Chapter:
    """One benchmark's part of a report: figures and tables by name, in the order of `order`."""

    benchmark: Benchmark
    parts: Mapping[str, Part] = field(repr=False)
    tables: Mapping[str, Table] = field(repr=False)
    order: tuple[str, ...] = ()


def chapter(benchmark: Benchmark, options: Options, more: Mapping[str, Table] | None = None) -> Chapter:
    """Everything to be said about a benchmark.

    Args:
        benchmark: Its runs.
        options: How to summarise them.
        more: Further tables, after the summary: the supervised papers' own with Delta-m.
    """
    made = {name: make() for name, make in builders(benchmark, options).items()}
    first = {name: made.pop(name) for name in ("summary", "score_curves")}
    made = first | dict(more or {}) | made
    parts = {name: own for name, own in made.items() if isinstance(own, Part) and own.figures}
    tables = {name: own for name, own in made.items() if isinstance(own, Table)}
    return Chapter(benchmark, parts, tables, tuple(name for name in made if name in parts or name in tables))


def builders(benchmark: Benchmark, options: Options) -> dict[str, Callable[[], Part | Table | None]]:
    """What makes each part of a chapter, by name and in order; None where the runs have nothing of the kind."""
    last, aggregate, confidence = options.last, options.aggregate, options.confidence
    of = options.published or benchmark.name
    return {
        "summary": lambda: summary_table(benchmark, last, aggregate, confidence),
        "score_curves": lambda: curves.score_curves(benchmark, aggregate, confidence),
        "published": lambda: published_table(benchmark, of, last) if benchmark.kind == "rl" else None,
        "task_by_time": lambda: curves.score_heat(benchmark),
        "task_bars": lambda: tasks.task_bars(benchmark, confidence),
        "tasks": lambda: task_table(benchmark, confidence),
        "method_against_method": lambda: versus.method_against_method(benchmark, last, aggregate, confidence),
        "task_differences": lambda: versus.task_differences(benchmark, last),
        "profiles": lambda: curves.profiles(benchmark, last, confidence),
        "conflict_curves": lambda: conflicts.conflict_curves(benchmark),
        "conflict_map": lambda: conflicts.conflict_maps(benchmark),
        "conflict_pairs": lambda: conflicts.pairs_over_time(benchmark),
        "methods_did": lambda: conflicts.what_methods_did(benchmark),
        "temperatures": lambda: health.temperatures(benchmark),
        "health": lambda: health.run_health(benchmark),
        "runs": lambda: runs_table(benchmark),
        "differences": lambda: differences_table(benchmark),
    }


def remarks(chapters: Sequence[Chapter], said: Sequence[str]) -> list[str]:
    """What a reader must know before the figures: runs left out, unfinished ones, single seeds."""
    result = list(said)
    for own in chapters:
        result += own.benchmark.said
        open_runs = [record for record in own.benchmark.records if record.status != "finished"]
        if open_runs:
            by_status = Counter(record.status for record in open_runs)
            shown = ", ".join(f"{count} {status}" for status, count in by_status.items())
            result.append(f"{own.benchmark.name}: not all runs are finished ({shown}); they count as far as they are.")
        single = [group.label for group in own.benchmark.groups if len(group.seeds_R) == 1]
        if single:
            result.append(
                f"{own.benchmark.name}: one seed only of {', '.join(single)}: no interval, and nothing proved."
            )
    return result
