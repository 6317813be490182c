"""Results that are kept, and rows that are read with less work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.memory import remembered
from mtrl_surgery.reports.records import Reading, Record
from mtrl_surgery.reports.tail import Tail, thinned_rows
from tests.reports.folders import make_run


def test_the_same_numbers_are_asked_about_once() -> None:
    asked: list[float] = []

    @remembered(2)
    def total(values: np.ndarray, times: int = 1) -> float:
        asked.append(float(values.sum()))
        return times * asked[-1]

    one, other = np.arange(4.0), np.arange(4.0).reshape(2, 2)
    assert total(one) == total(one.copy()) == 6 and len(asked) == 1
    total(other)
    assert len(asked) == 2, "another shape is another question"
    assert total(one, times=2) == 12 and len(asked) == 3
    one[0] = 5
    assert total(one) == 11 and len(asked) == 4, "an array that has changed is another one"
    total(other)
    assert len(asked) == 5, "two are kept"


def test_lists_that_are_left_out_are_not_parsed_and_nothing_else_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step":1,"returns":[1.5,null],"text":",\\"returns\\":[1]","goals":[],"hits":2}\n')
    rows, _ = Tail(path, without=("returns", "goals")).read()
    assert rows == [{"step": 1, "text": ',"returns":[1]', "hits": 2}]


def test_a_list_of_another_kind_is_kept_and_a_bad_line_is_still_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step":1,"goals":[{"a":[1]}],"hits":2}\n')
    assert Tail(path, without=("goals",)).read()[0] == [{"step": 1, "goals": [{"a": [1]}], "hits": 2}]
    path.write_text("".join(f'{{"step":{step}}}\n' for step in range(50)) + "nonsense\n")
    with pytest.raises(ReportError, match="line 51 is no JSON"):
        Tail(path, most_steps=5, without=("goals",)).read()


def test_rows_are_thinned_evenly_once_they_are_twice_too_many() -> None:
    dense = [{"step": step} for step in (*range(0, 1000, 100), *range(1000, 1010))]
    assert thinned_rows(dense, 10) is dense
    kept = [row["step"] for row in thinned_rows([{"event": 1}, *dense, {"step": 1010}], 10) if "step" in row]
    assert kept[-1] == 1010 and len(kept) <= 11 and len([step for step in kept if step < 1000]) >= 9


def test_what_is_derived_is_made_again_after_its_file_has_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path, status="running")
    record = Record.open(run, readings={"evaluations": Reading(), "health": Reading(slim=lambda row: {"n": len(row)})})
    made: list[int] = []

    def count() -> int:
        made.append(len(record.rows["evaluations"]))
        return made[-1]

    def ask() -> int:
        return record.derived(("evaluations",), "count", count)

    assert ask() == ask() == 6 and len(made) == 1
    with (run / "health.jsonl").open("a") as file:
        file.write('{"step":300,"time":1}\n')
    assert record.refresh() and ask() == 6 and len(made) == 1
    assert record.rows["health"][-1] == {"n": 2}
    with (run / "evaluations.jsonl").open("a") as file:
        file.write('{"step":300,"task":"reach-v3"}\n')
    assert record.refresh() and ask() == 7


def test_a_configuration_that_a_resume_changed_is_read_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record = Record.open(run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("total_steps: 200", "total_steps: 4000"))
    assert record.refresh() and record.config["total_steps"] == 4000 and record.versions["config"] == 2
