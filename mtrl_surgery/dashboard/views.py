"""What each view consists of, made from the runs that the state names."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from mtrl_surgery.dashboard.choosing import choices, label, matching
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.overview import run_rows
from mtrl_surgery.dashboard.state import State
from mtrl_surgery.reports.benchmarks import Benchmark, Success, benchmarks
from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.records import ReportError, Row
from mtrl_surgery.reports.report import Options, builders
from mtrl_surgery.reports.tables import Table


class View(NamedTuple):
    """A page of the dashboard.

    Attributes:
        title: In the list of views.
        parts: Of a report's chapter, with the files that each is made from; none: the table of runs.
    """

    title: str
    parts: dict[str, tuple[str, ...]]


_SCORES = ("evaluations",)
VIEWS: dict[str, View] = {
    "overview": View("Runs", {}),
    "curves": View("Curves", {"score_curves": _SCORES, "summary": ("evaluations", "health"), "profiles": _SCORES}),
    "tasks": View("Tasks", dict.fromkeys(("task_by_time", "task_bars", "tasks"), _SCORES)),
    "methods": View(
        "Method against method", dict.fromkeys(("method_against_method", "task_differences", "published"), _SCORES)
    ),
    "conflicts": View(
        "Conflicts",
        {
            "conflict_curves": ("metrics",),
            "conflict_map": ("conflicts",),
            "conflict_pairs": ("conflicts",),
            "methods_did": ("metrics",),
        },
    ),
    "health": View("Health", {"health": ("health",), "temperatures": ("metrics",)}),
    "config": View("Configuration", {"differences": ()}),
}

_PANELS = frozenset(("task_by_time", "conflict_map", "conflict_pairs", "methods_did"))
"""Parts with panels of their own for each group."""
MOST_PANELS = 12
"""Groups that such a part shows: more are slow to draw and no one compares them by eye."""

Found = tuple[list[Benchmark], list[str]]


def files_of(view: str) -> tuple[str, ...]:
    """The files of a run that a view needs; the table of runs needs what all need."""
    found = tuple(dict.fromkeys(file for files in VIEWS[view].parts.values() for file in files))
    return found if VIEWS[view].parts else ("evaluations", "health")


class Views:
    """What pages show of the follower's runs as they are now."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self._lock = threading.Lock()
        # The parts of a page ask for the same benchmarks one after the other.
        self._find_once = lru_cache(4)(self._find)

    def benchmarks(self, state: State) -> Found:
        """All that the filters leave, and what is to be said of runs that are in none."""
        versions = tuple(sorted(self.follower.versions.items()))
        with self._lock:
            return self._find_once(versions, tuple(state.where.items()), state.group, state.success)

    def benchmark(self, state: State) -> Benchmark | None:
        """The one that the state names; of none that is named, the one with the most runs."""
        found = [own for own in self.benchmarks(state)[0] if state.benchmark in ("", own.name)]
        return max(found, key=_size, default=None)

    def benchmark_names(self, state: State) -> list[str]:
        """All there are, whatever is filtered."""
        return [own.name for own in self.benchmarks(State(success=state.success))[0]]

    def part(self, name: str, state: State) -> Part | Table | None:
        """A part of the state's benchmark; None where there is nothing of the kind."""
        benchmark = self.benchmark(state)
        if benchmark is None:
            return None
        if name in _PANELS:
            benchmark = replace(benchmark, groups=benchmark.groups[:MOST_PANELS])
        made = builders(benchmark, Options(state.aggregate))[name]()
        return None if isinstance(made, Part) and not made.figures else made

    def rows(self, state: State) -> list[Row]:
        """The table of runs."""
        own = [own for own in self.benchmarks(state)[0] if state.benchmark in ("", own.name)]
        kept = {record for benchmark in own for record in benchmark.records}
        runs = matching(self.follower.runs(), state.where)
        return run_rows([seen for seen in runs if not state.benchmark or seen.record in kept], own)

    def remarks(self, state: State) -> list[str]:
        """What a reader should know before the view."""
        said = [*self.follower.remarks(), *self.benchmarks(state)[1]]
        parts, benchmark = VIEWS[state.view].parts, self.benchmark(state)
        if not parts:
            return said
        if benchmark is None:
            return [self._nothing(state), *said]
        groups = len(benchmark.groups)
        if groups > MOST_PANELS and not _PANELS.isdisjoint(parts):
            said = [f"Figures with a panel a group show the first {MOST_PANELS} of {groups}; a filter picks.", *said]
        return [*benchmark.said, *said]

    def choices(self, state: State) -> dict[str, dict[str, int]]:
        """The keys to filter and to group by with their values, among the runs of the state's benchmark."""
        runs = self.follower.runs()
        found = self.benchmarks(State(success=state.success))[0]
        name = state.benchmark or (max(found, key=_size).name if found and state.view != "overview" else "")
        # A twin is in no group and can be chosen too.
        others = {record for own in found if own.name != name for record in own.records}
        return choices([seen for seen in runs if not name or seen.record not in others] or runs)

    def _find(
        self, versions: Hashable, where: tuple[tuple[str, tuple[str, ...]], ...], group: tuple[str, ...], success: str
    ) -> Found:
        runs = matching(self.follower.runs(), dict(where))
        labels = {seen.record: label(seen, group) for seen in runs} if group else {}
        label_of = labels.__getitem__ if labels else None
        counted: Success = "last" if success == "last" else "any"
        try:
            return benchmarks([seen.record for seen in runs], counted, self.follower.scoring_of, label_of)
        except ReportError as error:
            return [], [str(error)] if runs else []

    def _nothing(self, state: State) -> str:
        if not self.follower.runs():
            return f"There are no runs below {self.follower.roots} yet; they appear here when they start."
        if state.where:
            return "No run passes the filters."
        return f"There is no benchmark {state.benchmark}; choices: {', '.join(self.benchmark_names(state))}."


def _size(benchmark: Benchmark) -> int:
    return len(benchmark.records)
