from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl_surgery.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    Segment,
    load_checkpoint,
)

FILES = ("arrays.safetensors", "state.json", "manifest.json", "segment")


def content(step: int) -> dict[str, Any]:
    return {"w": np.full((3, 5), step, np.float32), "step": step, "names": ["a", None], "t": (1, 2.5)}


def transitions(start: int, stop: int) -> dict[str, np.ndarray]:
    return {
        "obs": np.full((2, stop - start, 4), start, np.float32),
        "done": np.zeros((2, stop - start), bool),
    }


def filled(folder: Path, steps: tuple[int, ...] = (10, 20, 30), keep: int = 3) -> CheckpointStore:
    """A store with a checkpoint at each step and a segment from one to the next."""
    store, segments = CheckpointStore(folder, keep), []
    for before, step in zip((0, *steps), steps, strict=False):
        segments.append(store.write_segment(before, step, transitions(before, step)))
        store.save(step, content(step), segments)
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest_step(folder: Path) -> int | None:
    found = CheckpointStore(folder, 1).newest()
    return None if found is None else found.step


def victim(folder: Path, name: str) -> Path:
    """A file of the newest checkpoint (step 30)."""
    if name == "segment":
        return folder / "replay" / Segment(20, 30, 0, "").name
    return folder / "step-000000030" / name


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    filled(tmp_path)
    store = CheckpointStore(tmp_path, 3)
    found = store.newest()
    assert isinstance(found, Checkpoint) and found.step == 30 and found.path == tmp_path / "step-000000030"
    assert found.state["t"] == (1, 2.5) and found.state["names"] == ["a", None]
    assert [(segment.start, segment.stop) for segment in found.segments] == [(0, 10), (10, 20), (20, 30)]
    for segment in found.segments:
        arrays = store.read_segment(segment)
        assert arrays["done"].dtype == bool and arrays["obs"].shape == (2, 10, 4)
        assert (arrays["obs"] == segment.start).all()
    assert load_checkpoint(tmp_path / "step-000000010").state["step"] == 10


def test_an_empty_or_missing_folder_has_no_newest(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none", 2).newest() is None


def test_only_the_newest_are_kept_and_with_them_their_segments(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    segments: list[Segment] = []
    for step in range(10, 60, 10):
        segments.append(store.write_segment(step - 10, step, transitions(step - 10, step)))
        store.save(step, content(step), segments[-2:])  # a replay of 20 transitions
    assert names(tmp_path) == ["replay", "step-000000040", "step-000000050"]
    # 40 needs [20, 40), 50 needs [30, 50)
    assert names(tmp_path / "replay") == [segment.name for segment in segments[-3:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest_step(tmp_path) == 50
    assert load_checkpoint(tmp_path / "step-000000040").step == 40


def test_a_segment_that_waits_for_its_checkpoint_is_not_dropped(tmp_path: Path) -> None:
    store = filled(tmp_path, (10,))
    ahead = store.write_segment(20, 30, transitions(20, 30))
    second = store.write_segment(10, 20, transitions(10, 20))
    store.save(20, content(20), [second])
    assert (tmp_path / "replay" / ahead.name).exists()


def test_a_bad_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    store = filled(tmp_path, (10, 20), keep=2)
    (tmp_path / "step-000000020" / "state.json").write_text("{}")
    store.save(30, content(30))
    assert names(tmp_path) == ["replay", "step-000000010", "step-000000020", "step-000000030"]
    store.save(40, content(40))
    assert names(tmp_path) == ["replay", "step-000000030", "step-000000040"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty", "extend"])
def test_a_damaged_newest_is_skipped_and_named(tmp_path: Path, name: str, damage: str) -> None:
    filled(tmp_path)
    file = victim(tmp_path, name)
    whole = file.read_bytes()
    match damage:
        case "truncate":
            pieces = [whole[:size] for size in {1, 8, len(whole) // 2, len(whole) - 1}]
        case "flip":
            places = {0, 8, len(whole) // 3, len(whole) // 2, len(whole) - 1}
            pieces = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in places]
        case "empty":
            pieces = [b"", bytes(len(whole))]
        case "extend":
            pieces = [whole + b"x"]
        case _:
            pieces = [b""]
    for piece in pieces:
        if damage == "remove":
            file.unlink()
        else:
            file.write_bytes(piece)
        with pytest.warns(UserWarning, match="skipping a checkpoint") as caught:
            assert newest_step(tmp_path) == 20
        assert file.name in str(caught[0].message)
        with pytest.raises(CheckpointError, match=re.escape(file.name)):
            CheckpointStore(tmp_path, 1).load(tmp_path / "step-000000030")


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    store = filled(tmp_path, (30,))
    file = victim(tmp_path, "manifest.json")
    whole = file.read_bytes()
    reference = store.load(file.parent)
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = store.load(file.parent)
        except CheckpointError:
            continue
        # only the space between two tokens may change unnoticed
        assert (found.step, found.segments) == (reference.step, reference.segments)


def test_a_missing_folder_and_a_missing_segment_are_named(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "step-000000099")
    victim(tmp_path, "segment").unlink()
    with pytest.raises(CheckpointError, match=r"segment-000000000020-000000000030\.safetensors is missing"):
        load_checkpoint(tmp_path / "step-000000030")
    assert load_checkpoint(tmp_path / "step-000000030", replay=False).step == 30


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtrl_surgery.runs.checkpoint.FORMAT", 3)
    path = CheckpointStore(tmp_path, 1).save(1, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 3; this version reads format 2"):
        load_checkpoint(path)


def test_a_segment_that_changes_after_its_check_is_noticed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    found = store.newest()
    assert found is not None
    file = victim(tmp_path, "segment")
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckpointError, match="corrupt"):
        store.read_segment(found.segments[-1])


def test_nothing_is_saved_over_a_segment_that_is_not_there(tmp_path: Path) -> None:
    store = filled(tmp_path)
    segment = store.write_segment(30, 40, transitions(30, 40))
    (tmp_path / "replay" / segment.name).unlink()
    with pytest.raises(CheckpointError, match=r"cannot save step 40: segment-.* is missing"):
        store.save(40, content(40), [segment])
    assert newest_step(tmp_path) == 30


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    store = filled(tmp_path, keep=1)
    store.save(30, {"second": True})
    assert names(tmp_path) == ["replay", "step-000000030"]
    assert store.load(tmp_path / "step-000000030").state == {"second": True}


def test_rewinding_forgets_the_future(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write_segment(30, 40, transitions(30, 40))
    (tmp_path / ".tmp-step-000000040").mkdir()
    store.rewind(store.load(tmp_path / "step-000000020"))
    assert names(tmp_path) == ["replay", "step-000000010", "step-000000020"]
    assert names(tmp_path / "replay") == [Segment(0, 10, 0, "").name, Segment(10, 20, 0, "").name]
    assert newest_step(tmp_path) == 20


def test_leftovers_go_with_the_next_save(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for leftover in (tmp_path / ".tmp-step-000000040", tmp_path / "replay" / ".tmp-segment"):
        leftover.mkdir()
        (leftover / "half").write_bytes(b"x")
    segment = store.write_segment(30, 40, transitions(30, 40))
    store.save(40, content(40), [segment])
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_checkpoint_can_be_moved(tmp_path: Path) -> None:
    filled(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert newest_step(tmp_path / "there") == 30


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (6, 5), (-1, 5)])
def test_bad_ranges_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    with pytest.raises(CheckpointError, match="0 <= start < stop"):
        CheckpointStore(tmp_path, 1).write_segment(start, stop, {})


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="keep=0"):
        CheckpointStore(tmp_path, 0)
    with pytest.raises(CheckpointError, match="step=-1"):
        CheckpointStore(tmp_path, 1).save(-1, {})
    with pytest.raises(CheckpointError, match="state/a: cannot store a set"):
        CheckpointStore(tmp_path, 1).save(1, {"a": set()})
