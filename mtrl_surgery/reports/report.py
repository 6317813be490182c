"""What a report consists of, in order: for each benchmark its tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mtrl_surgery.reports.benchmarks import Benchmark
from mtrl_surgery.reports.bootstrap import AGGREGATES
from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.figures import conflicts, curves, health, tasks, versus
from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.published import metaworld
from mtrl_surgery.reports.sheets import differences_table, published_table, runs_table, summary_table, task_table
from mtrl_surgery.reports.tables import Table


@dataclass(frozen=True)
class Options:
    """How runs are summarised.

    Attributes:
        aggregate: Over seeds and tasks: one of `AGGREGATES`.
        last: The k of the mean of the last k evaluations.
        confidence: Of all intervals.
        published: Whose published numbers to show: mt10, mt25, mt50, `none`, or empty for the runs' own benchmark.
        files: Whether parts have the numbers too that only their CSV files show.

    Raises:
        ReportError: A value that is none of these.
    """

    aggregate: str = "iqm"
    last: int = 5
    confidence: float = 0.95
    published: str = ""
    files: bool = True

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
    build = builders(benchmark, options, more)
    parts: dict[str, Part] = {}
    found: dict[str, Table] = {}
    for name, make in build.items():
        made = make()
        if isinstance(made, Table):
            found[name] = made
        elif made is not None and made.figures:
            parts[name] = made
    return Chapter(benchmark, parts, found, tuple(name for name in build if name in parts or name in found))


def builders(
    benchmark: Benchmark, options: Options, more: Mapping[str, Table] | None = None
) -> dict[str, Callable[[], Part | Table | None]]:
    """What makes each part of a chapter, by name and in order; None where the runs have nothing of the kind."""
    last, aggregate, confidence = options.last, options.aggregate, options.confidence
    of = options.published or benchmark.name
    return {
        "summary": lambda: summary_table(benchmark, last, aggregate, confidence),
        "score_curves": lambda: curves.score_curves(benchmark, aggregate, confidence, options.files),
        **{name: lambda table=table: table for name, table in (more or {}).items()},  # type: ignore[misc]
        "published": lambda: published_table(benchmark, of, last) if benchmark.kind == "rl" else None,
        "task_by_time": lambda: curves.score_heat(benchmark),
        "task_bars": lambda: tasks.task_bars(benchmark, confidence),
        "tasks": lambda: task_table(benchmark, confidence),
        "method_against_method": lambda: versus.method_against_method(benchmark, last, aggregate, confidence),
        "task_differences": lambda: versus.task_differences(benchmark, last),
        "profiles": lambda: curves.profiles(benchmark, last, confidence),
        "conflict_curves": lambda: conflicts.conflict_curves(benchmark, options.files),
        "conflict_map": lambda: conflicts.conflict_maps(benchmark, options.files),
        "conflict_pairs": lambda: conflicts.pairs_over_time(benchmark),
        "methods_did": lambda: conflicts.what_methods_did(benchmark, options.files),
        "temperatures": lambda: health.temperatures(benchmark, options.files),
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
            by_status: dict[str, int] = {}
            for record in open_runs:
                by_status[record.status] = by_status.get(record.status, 0) + 1
            shown = ", ".join(f"{count} {status}" for status, count in by_status.items())
            result.append(f"{own.benchmark.name}: not all runs are finished ({shown}); they count as far as they are.")
        single = [group.label for group in own.benchmark.groups if len(group.seeds_R) == 1]
        if single:
            result.append(
                f"{own.benchmark.name}: one seed only of {', '.join(single)}: no interval, and nothing proved."
            )
    return result
