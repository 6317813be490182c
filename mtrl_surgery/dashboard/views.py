"""What each view consists of, made from the runs that the state names; nothing is made twice."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from mtrl_surgery.dashboard.choosing import choices, label, matching
from mtrl_surgery.dashboard.following import Follower, Seen
from mtrl_surgery.dashboard.overview import run_rows
from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.workshop import Workshop
from mtrl_surgery.reports.benchmarks import Benchmark, Success, benchmarks
from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.figures.base import Figure, Part
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.report import Options, builders
from mtrl_surgery.reports.tables import Table
from mtrl_surgery.reports.tail import Row

T = TypeVar("T")

_RUN = ("config", "manifest")


class View(NamedTuple):
    """A page of the dashboard.

    Attributes:
        title: In the list of views.
        parts: Of a report's chapter; none: the table of runs.
    """

    title: str
    parts: tuple[str, ...]


VIEWS: dict[str, View] = {
    "overview": View("Runs", ()),
    "curves": View("Curves", ("score_curves", "summary", "profiles")),
    "tasks": View("Tasks", ("task_by_time", "task_bars", "tasks")),
    "methods": View("Method against method", ("method_against_method", "task_differences", "published")),
    "conflicts": View("Conflicts", ("conflict_curves", "conflict_map", "conflict_pairs", "methods_did")),
    "health": View("Health", ("health", "temperatures")),
    "config": View("Configuration", ("differences",)),
}

_READS: dict[str, tuple[str, ...]] = {
    "summary": ("evaluations", "health"),
    "conflict_curves": ("metrics",),
    "conflict_map": ("conflicts",),
    "conflict_pairs": ("conflicts",),
    "methods_did": ("metrics",),
    "health": ("health",),
    "temperatures": ("metrics",),
    "differences": (),
}
"""The files that a part is made from, where those are not the evaluations."""


_PANELS = frozenset(("task_by_time", "conflict_map", "conflict_pairs", "methods_did"))
"""Parts with panels of their own for each group."""
MOST_PANELS = 12
"""Groups that such a part shows: more are slow to draw and no one compares them by eye."""


def files_of(view: str) -> tuple[str, ...]:
    """The files of a run that a view needs."""
    return tuple(dict.fromkeys(file for part in VIEWS[view].parts for file in _READS.get(part, ("evaluations",))))


_UNSEEN: Figure = {}
"""In the place of figures that the state does not ask for."""


@dataclass(frozen=True)
class Section:
    """A part of a view.

    Attributes:
        name: Of its part.
        content: What it shows; None: nothing, or nothing yet.
        figure: Which of a part's figures.
        print: The same as long as it looks the same.
        pending: Whether a newer one is being made.
    """

    name: str
    content: Part | Table | None = field(repr=False)
    figure: str
    print: str
    pending: bool


@dataclass(frozen=True)
class Shown:
    """A whole view.

    Attributes:
        title: Over it.
        rows: Of the table of runs; None in the other views.
        sections: In order.
        said: What is to be said before them.
    """

    title: str
    rows: list[Row] | None
    sections: list[Section]
    said: list[str]


class Desk:
    """Makes views; what was made before and has not changed is taken from memory."""

    def __init__(self, follower: Follower, most: int = 60) -> None:
        """Of the follower's runs; at most `most` lists of benchmarks and of choices are kept."""
        self.follower = follower
        self._workshop = Workshop()
        self._most = most
        self._made: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.RLock()  # two pages that ask for the same make it once

    def show(self, state: State, wait_s: float = math.inf) -> Shown:
        """The view that a state names.

        Args:
            state: What to show.
            wait_s: For the figures; those that take longer are `pending`, in the form that they had before, if any.
        """
        until = time.monotonic() + wait_s
        runs = self.follower.runs()
        found, said = self._benchmarks(matching(runs, state.where), state)
        said = [*self.follower.remarks(), *said]
        view = VIEWS[state.view]
        if not view.parts:
            own = [b for b in found if state.benchmark in ("", b.name)]
            kept = {record for b in own for record in b.records}
            shown = [seen for seen in matching(runs, state.where) if not state.benchmark or seen.record in kept]
            return Shown(view.title, run_rows(shown, own), [], said)
        # Of none that is named, the one with the most runs.
        benchmark = max((b for b in found if state.benchmark in ("", b.name)), key=_size, default=None)
        if benchmark is None:
            return Shown(view.title, None, [], [self._nothing(state, runs), *said])
        numbers = {seen.record: seen.number for seen in runs}
        sections = []
        for part in view.parts:
            section, fault = self._section(part, benchmark, state, numbers, until)
            sections.append(section)
            said += [f"{part} cannot be drawn: {fault}"] if fault else []
        groups = len(benchmark.groups)
        if groups > MOST_PANELS and any(section.content and section.name in _PANELS for section in sections):
            said = [f"Figures with a panel a group show the first {MOST_PANELS} of {groups}; a filter picks.", *said]
        read, there = self.follower.progress()
        if not any(section.content or section.pending for section in sections):
            if read < there:
                said = [f"{read} of {there} runs have been read.", *said]
            else:
                needed = ", which compares methods" if state.view == "methods" else ""
                said = [f"{benchmark.name} has nothing for this view so far{needed}.", *said]
        return Shown(f"{view.title}: {benchmark.name}", None, sections, [*benchmark.said, *said])

    def benchmark_names(self, state: State) -> list[str]:
        """All there are, whatever is filtered."""
        return [b.name for b in self._benchmarks(self.follower.runs(), State(success=state.success))[0]]

    def choices(self, state: State) -> dict[str, dict[str, int]]:
        """The keys to filter and to group by with their values, among the runs of the state's benchmark."""
        runs = self.follower.runs()
        found = self._benchmarks(runs, State(success=state.success))[0]
        name = state.benchmark or (max(found, key=_size).name if found and state.view != "overview" else "")
        if name:
            # By tasks and kind, so that a twin, which is in no group, can be chosen too.
            kept = {record for b in found if b.name == name for record in b.records}
            runs = [seen for seen in runs if seen.record in kept] or runs
        key = ("choices", tuple(self._version(seen, _RUN) for seen in runs))
        return self._once(key, lambda: choices(runs))

    def _benchmarks(self, runs: Sequence[Seen], state: State) -> tuple[list[Benchmark], list[str]]:
        success: Success = "last" if state.success == "last" else "any"

        def make() -> tuple[list[Benchmark], list[str]]:
            by_record = {seen.record: label(seen, state.group) for seen in runs} if state.group else None
            try:
                return benchmarks(
                    [seen.record for seen in runs],
                    success,
                    self.follower.judge,
                    by_record.get if by_record else None,  # type: ignore[arg-type]
                )
            except ReportError as error:
                return [], [str(error)] if runs else []

        versions = tuple(self._version(seen, ("evaluations", *_RUN)) for seen in runs)
        return self._once(("benchmarks", versions, success, state.group), make)

    def _section(
        self, part: str, benchmark: Benchmark, state: State, numbers: Mapping[Record, int], until: float
    ) -> tuple[Section, str]:
        files = (*_RUN, *_READS.get(part, ("evaluations",)))
        place = (
            part, benchmark.name, state.success, state.aggregate, state.group, state.show.get(part, ""),
            tuple(numbers[record] for record in benchmark.records),
        )  # fmt: skip
        if part in _PANELS:
            benchmark = replace(benchmark, groups=benchmark.groups[:MOST_PANELS])
        version = tuple(tuple(record.versions[file] for file in files) for record in benchmark.records)

        def make() -> Part | Table | None:
            made = builders(benchmark, Options(state.aggregate, files=False))[part]()
            if not isinstance(made, Part):
                return made
            if not made.figures:
                return None
            shown = _chosen(made, state)
            # Made here, in the workshop's thread; nobody asks for the CSV file.
            return replace(made, rows=(), figures={**dict.fromkeys(made.figures, _UNSEEN), shown: made.figures[shown]})

        made = self._workshop.ask(place, version, make, min(until - time.monotonic(), 1e6))
        content, figure = made.thing, ""
        if isinstance(content, Part):
            figure = _chosen(content, state)
        looks = hashlib.sha256(repr((place, made.version, figure)).encode()).hexdigest()[:16]
        return Section(part, content, figure, looks, not made.fresh), made.fault

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]  # type: ignore[return-value]

    @staticmethod
    def _version(seen: Seen, files: Sequence[str]) -> tuple[int, ...]:
        return (seen.number, *(seen.record.versions[file] for file in files))

    def _nothing(self, state: State, runs: Sequence[Seen]) -> str:
        if not runs:
            return f"There are no runs below {self.follower.roots} yet; they appear here when they start."
        if state.where:
            return "No run passes the filters."
        return f"There is no benchmark {state.benchmark}; choices: {', '.join(self.benchmark_names(state))}."


def _chosen(part: Part, state: State) -> str:
    """Which of a part's figures the state asks for: the first, if it asks for none that there is."""
    asked = state.show.get(part.name, "")
    return asked if asked in part.figures else next(iter(part.figures), "")


def _size(benchmark: Benchmark) -> int:
    return len(benchmark.records)
