from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.runs.jsonl import JsonlWriter, read_rows
from mtrl_surgery.runs.reading import RunError

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
rows = st.lists(st.dictionaries(st.text(), values | st.lists(values, max_size=3), max_size=4), max_size=6)


def write(path: Path, content: list[dict[str, Any]]) -> None:
    writer = JsonlWriter(path)
    for row in content:
        writer.write(row)
    writer.close()


@settings(max_examples=60, deadline=None)
@given(rows)
def test_rows_come_back_exactly_and_equal_rows_give_equal_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write(folder / "a", content)
    write(folder / "b", content)
    assert read_rows(folder / "a") == content
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "a")
    writer.write({"step": 1})
    assert read_rows(tmp_path / "a") == [{"step": 1}]
    assert writer.position() == (tmp_path / "a").stat().st_size
    writer.close()
    writer.close()


def test_numpy_values_and_numbers_that_json_lacks(tmp_path: Path) -> None:
    write(
        tmp_path / "a",
        [
            {
                "f32": np.float32(0.1),
                "i": np.int64(2**62),
                "b": np.bool_(True),
                "list": np.array([1.5, math.nan]),
                "nan": math.nan,
                "inf": np.float32(math.inf),
                "zero": -0.0,
            }
        ],
    )
    text = (tmp_path / "a").read_text()
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert row == {
        "f32": 0.10000000149011612,
        "i": 2**62,
        "b": True,
        "list": [1.5, None],
        "nan": None,
        "inf": None,
        "zero": 0.0,
    }
    assert '"zero":-0.0' in text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": {"b": [0, {1}]}}, r"row.a.b\[1\]: no place for a set"),
        ({"a": 1j}, "row.a: no place for a complex"),
        ({"a": {1: 2}}, "row.a: the key 1 is a int"),
    ],
)
def test_what_is_no_row_is_refused_and_nothing_is_written(tmp_path: Path, row: Any, message: str) -> None:
    writer = JsonlWriter(tmp_path / "a")
    with pytest.raises(RunError, match=message):
        writer.write(row)
    assert writer.position() == 0
    writer.close()


def test_every_torn_end_reads_as_the_rows_before_and_is_mended(tmp_path: Path) -> None:
    content = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    path = tmp_path / "a"
    write(path, content)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first + 1, len(whole)):
        path.write_bytes(whole[:size])
        assert read_rows(path) == content[:1]
        with pytest.warns(UserWarning, match=f"removed a half-written last row of {size - first} bytes"):
            writer = JsonlWriter(path)
        writer.write(content[1])
        writer.close()
        assert path.read_bytes() == whole


def test_a_long_torn_row_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"a":1}\n' + b"x" * 200_000)
    with pytest.warns(UserWarning, match="200000 bytes"):
        JsonlWriter(path).close()
    assert read_rows(path) == [{"a": 1}]
    path.write_bytes(b"x" * 200_000)
    with pytest.warns(UserWarning, match="half-written"):
        JsonlWriter(path).close()
    assert path.read_bytes() == b""


def test_truncation_is_to_the_end_of_a_row_only(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "a")
    writer.write({"a": 1})
    position = writer.position()
    writer.write({"b": 2})
    with pytest.raises(RunError, match="no row ends at byte 9"):
        writer.truncate(position + 1)
    with pytest.raises(RunError, match="has 16 bytes, 17 were expected"):
        writer.truncate(17)
    writer.truncate(position)
    writer.write({"c": 3})
    writer.truncate(position + 8)
    assert read_rows(tmp_path / "a") == [{"a": 1}, {"c": 3}]
    writer.truncate(0)
    assert read_rows(tmp_path / "a") == []
    writer.close()


@pytest.mark.parametrize(("line", "message"), [("{", "line 2 is no JSON"), ("[1]", "line 2 is no row but a list")])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a").write_text('{"a":1}\n' + line + '\n{"a":1}\n')
    with pytest.raises(RunError, match=message):
        read_rows(tmp_path / "a")


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none") == []
