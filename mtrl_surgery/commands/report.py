"""A report on runs: one HTML file that opens without a network, and PNG, CSV and LaTeX of its parts beside it.

usage: mtrl-surgery report runs [RUN ...] [out=report.html] [KEY=VALUE ...]

RUN         run folders, folders of run folders at any depth, or patterns such as 'runs/mt10_*'; runs of the same tasks
            are compared, others have a chapter each; supervised runs: python -m experiments_vision report

{keys}

Nothing is changed in the run folders; runs may still be running.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError, check_choice
from mtrl_surgery.cli.words import PATH, split_paths

if TYPE_CHECKING:
    from mtrl_surgery.reports.benchmarks import Benchmark, ScoringOf
    from mtrl_surgery.reports.report import Chapter
    from mtrl_surgery.reports.tables import Table

_MOST_STEPS = 240
"""Of metrics over time that figures can show."""


@dataclass
class Arguments:
    """Options of `report`."""

    out: Annotated[str, PATH, "the HTML file; its parts go to the folder of the same name, report/"] = "report.html"
    title: Annotated[str, "over the page; left out: what was named"] = ""
    success: Annotated[
        str, "any | last: whether an episode counts that succeeded at any step, or only at its last one"
    ] = "any"
    aggregate: Annotated[str, "over seeds and tasks: iqm (the interquartile mean) | mean | median"] = "iqm"
    last: Annotated[int, "how many evaluations the mean of the last ones takes"] = 5
    confidence: Annotated[float, "of all intervals"] = 0.95
    published: Annotated[
        str, "whose numbers to lay beside: mt10 | mt25 | mt50 | none; left out: those of the runs' own benchmark"
    ] = ""
    png: Annotated[bool, "false leaves out the pictures"] = True
    parts: Annotated[bool, "false leaves out the whole folder of parts"] = True


def main(words: Sequence[str]) -> int:
    """Read the runs, write the page and its parts, say where."""
    return report(words, __doc__ or "")


def report(
    words: Sequence[str],
    description: str,
    scoring_of: ScoringOf | None = None,
    more_tables: Callable[[Benchmark], dict[str, Table]] = lambda benchmark: {},
) -> int:
    """The command, for whatever kinds of runs a package knows.

    Args:
        words: Of the command line.
        description: The help, with `{keys}` in it.
        scoring_of: The metrics of supervised runs; None leaves such runs out.
        more_tables: A benchmark's tables besides those of every report.
    """
    if not words or wants_help(words):
        print(usage(description, Arguments))
        return 0
    paths, rest = split_paths(words, Arguments)
    arguments = parse(rest, Arguments)
    from mtrl_surgery.reports.benchmarks import SUCCESSES, benchmarks
    from mtrl_surgery.reports.html_report import page
    from mtrl_surgery.reports.records import Reading, open_runs
    from mtrl_surgery.reports.report import Options, chapter, remarks
    from mtrl_surgery.reports.writing import write_parts

    check_choice("success", arguments.success, SUCCESSES)
    out = Path(arguments.out)
    if out.suffix not in (".html", ".htm"):
        raise SettingsError(f"out={out}: must end in .html")
    options = Options(arguments.aggregate, arguments.last, arguments.confidence, arguments.published)
    readings = dict.fromkeys(("metrics", "health", "conflicts"), Reading(_MOST_STEPS))
    records, said = open_runs(paths, readings=readings)
    found, left_out = benchmarks(records, arguments.success, scoring_of)  # type: ignore[arg-type]  # checked above
    chapters = [chapter(own, options, more_tables(own)) for own in found]
    title = arguments.title or f"Report on {', '.join(paths)}"
    text = page(title, _facts(chapters), chapters, remarks(chapters, [*said, *left_out]))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        written = write_parts(chapters, out.with_suffix(""), arguments.png) if arguments.parts else 0
    except OSError as error:
        raise SettingsError(f"out={out}: cannot write there: {error.strerror}") from error
    for own in chapters:
        print(own.tables["summary"].text(), end="\n\n")
    for remark in remarks(chapters, [*said, *left_out]):
        print(remark)
    print(f"written to {out}" + (f", and {written} files to {out.with_suffix('')}{os.sep}" if written else ""))
    return 0


def _facts(chapters: Sequence[Chapter]) -> str:
    runs = sum(len(own.benchmark.records) for own in chapters)
    found = {(group.label, group.method) for own in chapters for group in own.benchmark.groups}
    methods = sum(method != "stl" for _, method in found)
    said = [f"{methods} method{'s' * (methods != 1)}"] if methods else []
    said += ["the single-task baselines (stl)"] if methods < len(found) else []
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{runs} run{'s' * (runs != 1)} of {' and '.join(said)}, {made}"
