"""`load_runs`: runs as pandas frames, for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.labels import flat, method_name
from mtrl_surgery.reports.records import FILES, Patterns, Record, open_runs
from mtrl_surgery.reports.tail import Row
from mtrl_surgery.shell import install

if TYPE_CHECKING:
    import pandas as pd

_NOT_LONG = ("step", "epoch", "split", "task", "examples")


@dataclass(frozen=True, repr=False)
class RunFrames:
    """What run folders hold. Every frame has a column `run`, the folder's path, to join them by.

    Attributes:
        runs: One row a run: method, seed, status, and every configuration key as a column such as `agent.tau`.
        evaluations: Of reinforcement learning, one row a task and evaluation: counts, never only rates.
        measurements: Of supervised runs, one row a metric and evaluation: split, average, metric, value.
        metrics: Training metrics; `task` is null in the rows of the whole run.
        health: What depends on the clock or the machine.
        conflicts: Maps of the task gradients, one row a pair of tasks.
        said: A sentence for each folder that could not be read.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    metrics: pd.DataFrame
    health: pd.DataFrame
    conflicts: pd.DataFrame
    said: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """A line a frame: what printing all of them would hide in thousands of rows."""
        frames = {name: value for name, value in vars(self).items() if name != "said"}
        lines = [f"  .{name:<13}{len(frame):>9,} rows  {frame.shape[1]:>4} columns" for name, frame in frames.items()]
        left_out = [f"  left out: {sentence}" for sentence in self.said]
        return "\n".join([f"{len(self.runs)} runs, as pandas frames:", *lines, *left_out])


def load_runs(patterns: Patterns, files: Sequence[str] = FILES) -> RunFrames:
    """Reads run folders of reinforcement learning and of supervised benchmarks.

        frames = mtrl_surgery.load_runs("runs/mt10_*")
        frames.evaluations.merge(frames.runs[["run", "method"]]).groupby("method").successes_any.sum()

    Args:
        patterns: Run folders, folders of run folders at any depth, or patterns.
        files: Which of `FILES` to read; the others' frames are empty.

    Raises:
        ReportError: pandas is not installed, there is no run, or a file is asked for that runs do not have.
    """
    pandas = _pandas()
    unknown = [name for name in files if name not in FILES]
    if unknown:
        raise ReportError(f"files={unknown[0]}: choices: {', '.join(FILES)}")
    records, said = open_runs(patterns, files)
    evaluations = {kind: [r for r in records if (r.kind == "supervised") == (kind == "supervised")] for kind in _KINDS}
    return RunFrames(
        runs=pandas.DataFrame([_facts(record) for record in records]),
        evaluations=_frame(pandas, evaluations["rl"], "evaluations"),
        measurements=_frame(pandas, evaluations["supervised"], "evaluations", _long),
        metrics=_frame(pandas, records, "metrics"),
        health=_frame(pandas, records, "health"),
        conflicts=_frame(pandas, records, "conflicts", pair_rows),
        said=tuple(said),
    )


_KINDS = ("rl", "supervised")


def pair_rows(row: Row) -> Iterable[Row]:
    """A map's row as one row a pair of tasks."""
    tasks = row["tasks"]
    head = {key: value for key, value in row.items() if key != "tasks" and not isinstance(value, list)}
    maps = {key: value for key, value in row.items() if key != "tasks" and isinstance(value, list)}
    pairs = ((one, other) for place, one in enumerate(tasks) for other in tasks[place + 1 :])
    for place, (one, other) in enumerate(pairs):
        yield {**head, "task": one, "other": other, **{key: values[place] for key, values in maps.items()}}


def _long(row: Row) -> Iterable[Row]:
    head = {key: row.get(key) for key in _NOT_LONG}
    for key, value in row.items():
        average, slash, metric = key.partition("/")
        if slash:
            yield {**head, "average": average, "metric": metric, "value": value}


def _facts(record: Record) -> Row:
    manifest = record.manifest
    facts = {key: manifest.get(key) for key in ("id", "status", "error", "started", "finished", "host")}
    return {
        "run": str(record.path),
        "kind": record.kind,
        "method": method_name(record.config),
        "seed": record.seed,
        **facts,
        "resumes": len(manifest.get("resumed") or ()),
        **{key: value for key, value in flat(record.config).items() if key not in ("seed", "method")},
    }


def _frame(pandas: Any, records: Sequence[Record], name: str, spread: Any = None) -> Any:
    """A frame of one file's rows; columns appear in the order in which runs first have them."""
    columns: dict[str, list[Any]] = {}
    lengths: list[int] = []
    for record in records:
        rows: list[Row] = record.rows.get(name, [])
        if spread is not None:
            rows = [one for row in rows for one in spread(row)]
        before = sum(lengths)
        for key in dict.fromkeys(key for row in rows for key in row):
            column = columns.setdefault(key, [])
            column += [None] * (before - len(column))
            column += [row.get(key) for row in rows]
        lengths.append(len(rows))
    total = sum(lengths)
    frame = pandas.DataFrame({key: column + [None] * (total - len(column)) for key, column in columns.items()})
    paths = [str(record.path) for record in records]
    codes = [place for place, length in enumerate(lengths) for _ in range(length)]
    frame.insert(0, "run", pandas.Categorical.from_codes(codes, categories=paths))
    return frame


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ReportError(f"load_runs gives pandas frames, and pandas is not installed: {install('report')}") from error
    return pandas
