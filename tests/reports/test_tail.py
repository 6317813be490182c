"""A growing file, read a piece at a time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.reports.records import Reading, Record, ReportError, Tail, thinned, thinned_frame
from tests.reports.folders import make_run


def lines(*numbers: int) -> bytes:
    return b"".join(json.dumps({"step": number, "text": "é"}).encode() + b"\n" for number in numbers)


def test_only_what_was_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    assert tail.read() == ([], False), "the file need not be there yet"
    path.write_bytes(lines(1, 2))
    assert [row["step"] for row in tail.read()[0]] == [1, 2]
    assert tail.read() == ([], False)
    with path.open("ab") as file:
        file.write(lines(3)[:-7])
    assert tail.read() == ([], False), "a torn line is left for later"
    with path.open("ab") as file:
        file.write(lines(3)[-7:] + lines(4))
    assert [row["step"] for row in tail.read()[0]] == [3, 4]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_any_cut_gives_the_same_rows(seed: int, pieces: int) -> None:
    import tempfile

    whole, source = lines(*range(40)), random.Random(seed)
    cuts = sorted(source.randrange(len(whole) + 1) for _ in range(pieces))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.touch()
        tail, found = Tail(path), []
        for first, last in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            with path.open("ab") as file:
                file.write(whole[first:last])
            rows, anew = tail.read()
            assert not anew
            found += [row["step"] for row in rows]
    assert found == list(range(40))


@pytest.mark.parametrize("after", [(1, 5, 6, 7), (1,), ()])
def test_a_file_that_a_resume_cut_back_is_read_anew(tmp_path: Path, after: tuple[int, ...]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(1, 2, 3))
    tail = Tail(path)
    tail.read()
    path.write_bytes(lines(*after))  # the first: it has grown beyond the old place meanwhile
    rows, anew = tail.read()
    assert anew and [row["step"] for row in rows] == list(after)
    assert tail.read() == ([], False)


def test_a_file_that_went_away_is_read_anew_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(1))
    tail = Tail(path)
    tail.read()
    path.unlink()
    assert tail.read() == ([], True)
    path.write_bytes(lines(1))
    assert len(tail.read()[0]) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"nonsense\n", "line 3 is no JSON"),
        (b"[1]\n", "line 3 is no row but a list"),
        (b'{"a":1},{"b":2}\n', "line 3 is no JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, bad: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    path.write_bytes(lines(1))
    tail.read()
    with path.open("ab") as file:
        file.write(lines(2) + bad + lines(4))
    with pytest.raises(ReportError, match=message) as caught:
        tail.read()
    assert str(path) in str(caught.value)


def test_many_steps_are_thinned_evenly_and_whole_to_the_last() -> None:
    rows = [f'{{"step":{step},"task":{task}}}'.encode() for step in range(1, 101) for task in range(3)]
    kept = thinned([b'{"event":1}', *rows], most=10)
    assert kept[0] == b'{"event":1}'
    steps = [json.loads(row)["step"] for row in kept[1:]]
    assert steps == [step for step in range(10, 101, 10) for _ in range(3)]
    assert thinned(rows, most=100) == rows


def test_a_thinned_tail(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(b'{"step":%d}\n' % step for step in range(1000)))
    assert [row["step"] for row in Tail(path, Reading(4)).read()[0]] == [249, 499, 749, 999]


def test_lists_that_are_left_out_are_not_parsed_and_nothing_else_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step":1,"returns":[1.5,null],"text":",\\"returns\\":[1]","goals":[],"hits":2}\n')
    rows, _ = Tail(path, Reading(without=("returns", "goals"))).read()
    assert rows == [{"step": 1, "text": ',"returns":[1]', "hits": 2}]


def test_a_list_of_another_kind_is_kept_and_a_bad_line_is_still_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step":1,"goals":[{"a":[1]}],"hits":2}\n')
    assert Tail(path, Reading(without=("goals",))).read()[0] == [{"step": 1, "goals": [{"a": [1]}], "hits": 2}]
    path.write_text("".join(f'{{"step":{step}}}\n' for step in range(50)) + "nonsense\n")
    with pytest.raises(ReportError, match="line 51 is no JSON"):
        Tail(path, Reading(5, ("goals",))).read()


def test_rows_are_thinned_evenly_once_they_are_twice_too_many() -> None:
    dense = pd.DataFrame({"step": [*range(0, 1000, 100), *range(1000, 1010)]})
    assert thinned_frame(dense, 10) is dense
    kept = thinned_frame(pd.concat([pd.DataFrame({"event": [1]}), dense, pd.DataFrame({"step": [1010]})]), 10)
    assert kept["event"].notna().sum() == 1
    steps = kept["step"].dropna().tolist()
    assert steps[-1] == 1010 and len(steps) <= 11 and len([step for step in steps if step < 1000]) >= 9


def test_a_configuration_that_a_resume_changed_is_read_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record = Record.open(run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("total_steps: 200", "total_steps: 4000"))
    assert record.refresh() and record.config["total_steps"] == 4000 and record.versions["config"] == 2
