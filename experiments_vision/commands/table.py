"""The papers' tables from run folders, with the published rows below.

usage: python -m experiments_vision table runs/vision [RUN ...] [mode=both] [baseline=runs] [sort=delta] [out=tables]

RUN        run folders, or folders of run folders; runs are grouped by data set, model, method and options

{keys}

Unfinished runs are named under the table and are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from experiments_vision.errors import VisionError
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.words import PATH, split_paths

if TYPE_CHECKING:
    from mtrl_surgery.reports.tables import Table

BASELINES = ("published", "runs")


@dataclass
class Arguments:
    """Options of `table`."""

    mode: Annotated[
        str,
        "paper: as the papers count (test split, averages over batches) | correct: pooled over the split, at the "
        "epoch that was best on the validation split | both",
    ] = "both"
    baseline: Annotated[
        str,
        "of Delta-m: published single-task results, or runs: ours with method=stl method.task=0, 1, ...; left out: "
        "published, and runs for multidigits, which no paper has",
    ] = ""
    sort: Annotated[str, "delta | rank | method | time | a metric such as miou"] = "delta"
    published: Annotated[
        str, "whose rows to show: a paper as in the tables, all, none; left out: the latest whole table"
    ] = ""
    out: Annotated[str | None, PATH, "where to write each table as Markdown, CSV and LaTeX; null: nowhere"] = "tables"


def main(words: Sequence[str]) -> int:
    """Print the tables, and write them."""
    if not words or wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    paths, rest = split_paths(words, Arguments)
    arguments = parse(rest, Arguments)
    if not paths:
        raise VisionError("name run folders, or a folder of run folders: table runs/vision")
    from experiments_vision.tables.collect import Wanted, tables
    from experiments_vision.tables.groups import find_runs
    from experiments_vision.tables.modes import MODES

    check_choice("mode", arguments.mode, (*MODES, "both"))
    if arguments.baseline:
        check_choice("baseline", arguments.baseline, BASELINES)
    runs, said = find_runs(paths)
    made: dict[str, Table] = {}
    for (dataset, model), own in runs.items():
        for mode in MODES if arguments.mode == "both" else [mode for mode in MODES if mode == arguments.mode]:
            wanted = Wanted(mode, arguments.baseline, arguments.sort, arguments.published)
            found = tables(own, wanted)
            for kind, table in found.items():
                made[re.sub(r"[^\w.-]", "-", f"{dataset}_{model}_{mode}_{kind}")] = table
    print("\n\n".join([*(table.text() for table in made.values()), *said]))
    if arguments.out:
        print(f"\n{write(made, Path(arguments.out))}")
    return 0


def write(made: dict[str, Table], out: Path) -> str:
    """Write every table three times, and say where."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in made.items():
            for suffix, text in (("md", table.markdown()), ("csv", table.csv()), ("tex", table.latex())):
                (out / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    except OSError as error:
        raise VisionError(f"out={out}: cannot write there: {error.strerror}") from error
    return f"written to {out}: {', '.join(made)} (.md, .csv, .tex)"
