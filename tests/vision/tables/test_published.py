"""The proof of the misprints: what follows from the printed metrics agrees with the print, except where it is marked.

Rounding is taken at its worst: every printed number may be off by half a unit of its last digit.
"""

from __future__ import annotations

import math

import pytest

from experiments_vision.delta import BASELINES, delta_m_by_task
from experiments_vision.errors import VisionError
from experiments_vision.objectives.registry import judge
from experiments_vision.tables.published import (
    DATASETS,
    DEFAULT_PAPER,
    Number,
    PublishedRow,
    corrected,
    misprints,
    papers,
    printed,
)

DENSE = ("nyuv2", "cityscapes")
SLACK = 1e-9


def rows_of(dataset: str, paper: str, rows: tuple[PublishedRow, ...]) -> list[PublishedRow]:
    """A paper's methods with all metrics; single-task learning is not ranked."""
    names = [spec.name for spec in judge(dataset).metrics]
    return [r for r in rows if r.paper == paper and r.method != "STL" and all(name in r.numbers for name in names)]


def delta_interval(dataset: str, row: PublishedRow) -> tuple[float, float]:
    """What Delta-m may be, given that the metrics are rounded."""
    low, high = 0.0, 0.0
    specs = judge(dataset).metrics
    for spec in specs:
        number, base = row.numbers[spec.name], BASELINES[dataset][spec.name] * spec.scale
        change = (number.value - base) / base * (-1 if spec.higher_is_better else 1)
        low += 100 * (change - number.half_unit / base) / len(specs)
        high += 100 * (change + number.half_unit / base) / len(specs)
    return low, high


def rank_interval(dataset: str, row: PublishedRow, rows: list[PublishedRow]) -> tuple[float, float]:
    """What the mean rank may be, given that equal or nearly equal numbers may stand either way."""
    low, high = 0, 0
    specs = judge(dataset).metrics
    for spec in specs:
        own = row.numbers[spec.name]
        for other in rows:
            if other is not row:
                theirs = other.numbers[spec.name]
                ahead = (theirs.value - own.value) * (1 if spec.higher_is_better else -1)
                room = theirs.half_unit + own.half_unit - SLACK
                low += ahead > room
                high += ahead >= -room
    return 1 + low / len(specs), 1 + high / len(specs)


def disagreements(dataset: str, rows: tuple[PublishedRow, ...]) -> set[tuple[str, str, str]]:
    """Where a printed Delta-m or mean rank cannot come from the metrics beside it."""
    found = set()
    for paper in papers(dataset):
        listed = rows_of(dataset, paper, rows)
        for row in listed:
            intervals = {"delta_m": delta_interval(dataset, row)}
            if len(listed) > 2:
                intervals["mean_rank"] = rank_interval(dataset, row, listed)
            for column, (low, high) in intervals.items():
                number = row.numbers.get(column)
                # A printed mean rank may be cut off instead of rounded (Nash-MTL prints 3.77 for 34 / 9).
                room = 0.0 if number is None else number.half_unit * (2 if column == "mean_rank" else 1) + SLACK
                if number is not None and not low - room <= number.value <= high + room:
                    found.add((paper, row.method, column))
    return found


@pytest.mark.parametrize("dataset", DENSE)
def test_printed_numbers_follow_from_the_printed_metrics_except_the_marked(dataset: str) -> None:
    marked = {(m.paper, m.method, m.column) for m in misprints() if m.dataset == dataset}
    marked = {one for one in marked if one[2] in ("delta_m", "mean_rank")}
    copied = {("SAM-GS", "LS", "delta_m"), ("SAM-GS", "LS", "mean_rank")}  # SI's row is right, for SI
    assert disagreements(dataset, printed(dataset)) == marked - (copied if dataset == "cityscapes" else set())


def test_the_corrected_gradnorm_row_explains_its_delta_and_two_mean_ranks() -> None:
    before = disagreements("nyuv2", printed("nyuv2"))
    after = disagreements("nyuv2", corrected("nyuv2"))
    assert before - after == {
        ("SAM-GS", "GradNorm", "delta_m"),
        ("SAM-GS", "GradNorm", "mean_rank"),
        ("SAM-GS", "UW", "mean_rank"),
    }
    assert not after - before


def test_the_cityscapes_ls_row_is_sis() -> None:
    rows = {(row.paper, row.method): row for row in printed("cityscapes")}
    assert rows["SAM-GS", "LS"].numbers == rows["SAM-GS", "SI"].numbers
    names = [spec.name for spec in judge("cityscapes").metrics]
    differ = set()
    for (paper, method), ours in rows.items():
        if paper == "Nash-MTL" and ("SAM-GS", method) in rows:
            theirs = rows["SAM-GS", method]
            gaps = [abs(ours.numbers[n].value - theirs.numbers[n].value) - theirs.numbers[n].half_unit for n in names]
            differ |= {method for gap in gaps if gap > SLACK}
    assert differ == {"LS"}  # every other row is Nash-MTL's, rounded
    right = {(row.paper, row.method): row for row in corrected("cityscapes")}
    assert all(right["SAM-GS", "LS"].numbers[n] == rows["Nash-MTL", "LS"].numbers[n] for n in (*names, "delta_m"))
    assert "mean_rank" not in right["SAM-GS", "LS"].numbers


def test_famos_cityscapes_rank_is_among_nash_mtls_rows() -> None:
    rows = rows_of("cityscapes", "Nash-MTL", printed("cityscapes"))
    famo = rows_of("cityscapes", "FAMO", printed("cityscapes"))
    low, high = rank_interval("cityscapes", famo[0], rows + famo)
    assert low - SLACK <= famo[0].numbers["mean_rank"].value <= high + SLACK


def test_celebas_printed_delta_column_holds_mean_ranks() -> None:
    famo = [row for row in printed("celeba") if row.paper == "FAMO"]
    total = sum(row.numbers["delta_m"].value for row in famo)
    assert len(famo) == 12 and total == pytest.approx(sum(range(1, 13)), abs=0.005)
    called_ranks = [row.numbers["mean_rank"].value for row in famo]
    assert min(called_ranks) < 1 and max(called_ranks) > len(famo)  # no ranks, whatever the head says
    copied = {row.method: row.numbers["delta_m"].value for row in printed("celeba") if row.paper == "SAM-GS"}
    assert all(copied[row.method] == row.numbers["delta_m"].value for row in famo)
    assert sum(copied.values()) < sum(range(1, 15)) - 15  # with the two rows added they are nobody's ranks any more
    for row in corrected("celeba"):
        if row.paper in ("FAMO", "SAM-GS") and row.method in {own.method for own in famo}:
            assert row.numbers["mean_rank"].value == copied[row.method] and row.notes.keys() == {"mean_rank", "delta_m"}
            assert row.numbers["delta_m"].value != copied[row.method]


def test_famos_qm9_ranks_count_from_zero_and_nash_mtls_from_one() -> None:
    ranks = {
        paper: [r.numbers["mean_rank"].value for r in printed("qm9") if r.paper == paper and "mean_rank" in r.numbers]
        for paper in ("FAMO", "Nash-MTL")
    }
    assert len(ranks["FAMO"]) == 11 and sum(ranks["FAMO"]) == pytest.approx(sum(range(11)), abs=0.06)
    assert len(ranks["Nash-MTL"]) == 10 and sum(ranks["Nash-MTL"]) == pytest.approx(sum(range(1, 11)), abs=0.55)


def test_the_single_task_rows_are_the_baselines() -> None:
    for dataset in DENSE:
        for row in printed(dataset):
            if row.method == "STL":
                for spec in judge(dataset).metrics:
                    assert row.numbers[spec.name].value == pytest.approx(BASELINES[dataset][spec.name] * spec.scale)


def test_delta_by_task_as_recomputed_elsewhere() -> None:
    specs = judge("nyuv2").metrics
    found = {
        row.method: delta_m_by_task(
            {s.name: row.numbers[s.name].value / s.scale for s in specs}, BASELINES["nyuv2"], specs
        )
        for row in rows_of("nyuv2", "SAM-GS", corrected("nyuv2"))
    }
    known = {"SAM-GS": -8.67, "Aligned-MTL": -8.16, "Nash-MTL": -7.65, "FAMO": -6.79}
    assert {name: round(found[name], 2) for name in known} == known


def test_every_misprint_is_of_a_row_that_is_there() -> None:
    for fault in misprints():
        rows = [r for r in printed(fault.dataset) if (r.paper, r.method) == (fault.paper, fault.method)]
        assert len(rows) == 1, fault
        assert fault.column in rows[0].numbers or fault.correct not in ("", "-"), fault
        assert fault.reason and (fault.correct in ("", "-") or math.isfinite(Number.read(fault.correct).value))


@pytest.mark.parametrize("dataset", DATASETS)
def test_columns_are_our_metrics(dataset: str) -> None:
    known = {spec.name for spec in judge(dataset).metrics} | {"mean_rank", "delta_m"}
    assert all(row.numbers.keys() <= known and row.numbers for row in printed(dataset))
    keys = [(row.paper, row.method) for row in printed(dataset)]
    assert len(set(keys)) == len(keys) and DEFAULT_PAPER[dataset] in papers(dataset)


def test_numbers_know_their_rounding() -> None:
    assert Number.read(".5251±.003") == Number(0.5251, 0.003, 0.5e-4)
    assert Number.read("-4") == Number(-4.0, None, 0.5)
    assert printed("multidigits") == () == corrected("multidigits")


def test_a_damaged_data_file_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments_vision.tables import published

    lines = [{"paper": "P", "method": "M", "miou": "4O.1"}]
    monkeypatch.setattr(published, "_lines", lambda name: iter([dict(cells) for cells in lines]))
    with pytest.raises(VisionError, match=r"published/qm9.csv, line 2 \(P, M\): .*4O.1"):
        printed.__wrapped__("qm9")
