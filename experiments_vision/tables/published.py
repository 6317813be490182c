"""The rows that papers printed, as data files, with the misprints that are known corrected and said.

`published/<data set>.csv` hold the numbers as printed, in the units of the papers' tables (`MetricSpec.scale`), with a
standard error after a `±`. `published/misprints.csv` says what is wrong with which of them: the number that is right,
`-` for one that has no right value, or nothing where the number stays and only the remark is added.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from experiments_vision.errors import VisionError

DATASETS = ("nyuv2", "cityscapes", "celeba", "qm9")
"""Those with published rows."""

DEFAULT_PAPER = {"nyuv2": "SAM-GS", "cityscapes": "SAM-GS", "celeba": "SAM-GS", "qm9": "FAMO"}
"""Whose table is shown beside ours: the latest that we have whole."""


@dataclass(frozen=True)
class Number:
    """A printed number.

    Attributes:
        value: In the units of the paper's table.
        error: Its standard error, if one is printed.
        half_unit: Half a unit of the last printed digit: how far rounding may have moved it.
    """

    value: float
    error: float | None
    half_unit: float

    @classmethod
    def read(cls, text: str) -> Number:
        """From `40.79` or `40.79±.172`."""
        number, _, error = text.partition("±")
        digits = len(number.partition(".")[2])
        return cls(float(number), float(error) if error else None, 0.5 * 10**-digits)


@dataclass(frozen=True)
class PublishedRow:
    """A method's row in one paper's table.

    Attributes:
        paper: Who printed it.
        method: As the paper calls it.
        numbers: By column: our metrics' names, `mean_rank` and `delta_m`; only what is known.
        notes: By column, what is wrong with the printed number.
    """

    paper: str
    method: str
    numbers: dict[str, Number]
    notes: dict[str, str]


@dataclass(frozen=True)
class Misprint:
    """A line of misprints.csv: `correct` is a number, `-` for none, or empty if only the remark is added."""

    dataset: str
    paper: str
    method: str
    column: str
    correct: str
    reason: str


@cache
def printed(dataset: str) -> tuple[PublishedRow, ...]:
    """A data set's rows as printed, misprints and all; none for a data set that no paper has.

    Raises:
        VisionError: A data file that is not ours any more: a cell that is no number.
    """
    if dataset not in DATASETS:
        return ()
    rows = []
    for line, cells in enumerate(_lines(f"{dataset}.csv"), 2):
        paper, method = cells.pop("paper"), cells.pop("method")
        try:
            numbers = {column: Number.read(text) for column, text in cells.items() if text}
        except ValueError as error:
            raise VisionError(f"published/{dataset}.csv, line {line} ({paper}, {method}): {error}") from error
        rows.append(PublishedRow(paper, method, numbers, {}))
    return tuple(rows)


@cache
def misprints() -> tuple[Misprint, ...]:
    """What is known to be wrong."""
    return tuple(Misprint(**cells) for cells in _lines("misprints.csv"))


@cache
def corrected(dataset: str) -> tuple[PublishedRow, ...]:
    """A data set's rows with the misprints put right and noted."""
    faults: dict[tuple[str, str], list[Misprint]] = {}
    for fault in misprints():
        if fault.dataset == dataset:
            faults.setdefault((fault.paper, fault.method), []).append(fault)
    return tuple(_correct(row, faults.get((row.paper, row.method), [])) for row in printed(dataset))


def papers(dataset: str) -> tuple[str, ...]:
    """The papers that have rows of a data set, in the order of the file."""
    return tuple(dict.fromkeys(row.paper for row in printed(dataset)))


def _correct(row: PublishedRow, faults: list[Misprint]) -> PublishedRow:
    numbers, notes = dict(row.numbers), {}
    for fault in faults:
        if fault.correct == "-":
            numbers.pop(fault.column, None)
        elif fault.correct:
            numbers[fault.column] = Number.read(fault.correct)
        notes[fault.column] = fault.reason
    return replace(row, numbers=numbers, notes=notes)


def _lines(name: str) -> Iterator[dict[str, str]]:
    text = files("experiments_vision.tables").joinpath("published", name).read_text(encoding="utf-8")
    return iter(csv.DictReader(text.splitlines()))
