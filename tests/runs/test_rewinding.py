"""Going back to a checkpoint: what does not belong to it is noticed before anything is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtrl_surgery.runs import durable
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.durable import held_by, take_lock
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.reading import RunError
from tests.runs.test_crash import small_disk  # noqa: F401  # a fixture

FILES = ("metrics", "evaluations", "conflicts")


def row(step: int) -> dict[str, Any]:
    return {"step": step, "task": "reach-v3", "network": "critic", "tasks": ["a", "b"], "x": step / 3}


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run that was cut off, and its checkpoint's positions: after step 5 of 8."""
    with RunFolder.create(tmp_path, "run", {"seed": 0}) as folder:
        positions: dict[str, Any] = {}
        for step in range(8):
            for name in (*FILES, "health"):
                getattr(folder, name).write(row(step))
            if step == 5:
                positions = folder.positions()
    return folder.path, positions


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}


def go_back(path: Path, positions: dict[str, Any]) -> None:
    RunFolder.open(path).check(positions)
    with RunFolder.open(path, writable=True) as again:
        again.rewind(positions)


def overwrite(path: Path) -> None:
    """A line of the same length, in the middle."""
    path.write_bytes(path.read_bytes().replace(b'{"step":3', b'{"step":2', 1))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    shutil.move(path, path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved").name)


def in_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def test_positions_come_with_hashes_that_are_not_made_anew_at_every_save(
    run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, positions = run
    assert {name: len(own["sha256"]) for name, own in positions.items()} == dict.fromkeys(FILES, 64)
    go_back(path, positions)
    read: list[int] = []

    def counted(digest: Any, descriptor: int, start: int, stop: int) -> int:
        read.append(stop - start)
        return durable.hash_on(digest, descriptor, start, stop)

    monkeypatch.setattr("mtrl_surgery.runs.jsonl.hash_on", counted)
    with RunFolder.open(path, writable=True) as again:
        before = again.positions()
        assert before == positions and sum(read) > 0, "once, what was there before"
        for step in range(6, 20):
            read.clear()
            again.metrics.write(row(step))
            again.positions()
            assert sum(read) == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "is missing"),
        (overwrite, "was changed"),
        (lambda path: os.truncate(path, 100), "has 100 bytes"),
        (as_folder, "directory"),
        (as_link, "symbolic links"),
        (in_circle, "symbolic links"),
    ],
)
def test_a_file_that_does_not_belong_is_named_before_anything_is_changed(
    run: tuple[Path, dict[str, Any]], name: str, spoil: Callable[[Path], object], message: str
) -> None:
    path, positions = run
    spoil(path / f"{name}.jsonl")
    before = content(path)
    with pytest.raises(RunError, match=rf"{name}.jsonl.*{message}|{message}.*{name}"):
        RunFolder.open(path).check(positions)
    with RunFolder.open(path, writable=True) as again, pytest.raises(RunError, match=name):
        again.rewind(positions)
    after = content(path)
    assert {key: own for key, own in after.items() if key.endswith("l") and key != "manifest.json"} == {
        key: own for key, own in before.items() if key.endswith("l")
    }


def test_a_cut_that_fails_in_the_middle_is_completed_by_the_next_resume(
    run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, positions = run
    cut = os.ftruncate
    calls: list[int] = []

    def fail_second(descriptor: int, length: int) -> None:
        if length:  # not the lock's
            calls.append(length)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
        cut(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", fail_second)
    with RunFolder.open(path, writable=True) as again, pytest.raises(RunError, match=r"cannot cut .*evaluations.jsonl"):
        again.rewind(positions)
    monkeypatch.undo()
    go_back(path, positions)
    assert {name: (path / f"{name}.jsonl").stat().st_size for name in FILES} == {
        name: own["bytes"] for name, own in positions.items()
    }


@pytest.mark.parametrize("flag", ["+i", "+a"])
def test_a_file_that_cannot_be_written_is_named(run: tuple[Path, dict[str, Any]], flag: str) -> None:
    """Immutable, or open for appending alone: what permissions are to others, these are to root too."""
    path, positions = run
    file = path / "evaluations.jsonl"
    if subprocess.run(["chattr", flag, str(file)], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no such flags")
    try:
        before = content(path)
        with pytest.raises(RunError, match=r"cannot open .*evaluations.jsonl: Operation not permitted"):
            RunFolder.open(path).check(positions)
        assert content(path) == before
    finally:
        subprocess.run(["chattr", f"-{flag[1]}", str(file)], check=True)


def test_positions_that_are_none_are_refused(run: tuple[Path, dict[str, Any]]) -> None:
    path, positions = run
    for place in ("all", positions["metrics"]["bytes"], {"bytes": 0}, {"bytes": -1, "sha256": ""}):
        with pytest.raises(RunError, match="position"):
            RunFolder.open(path).check({"metrics": place})


def test_a_renamed_checkpoint_stays_and_counts_as_what_it_is(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3, about={"config": {"seed": 1}})
    for step in (10, 20):
        store.save(step, {"step": step})
    (tmp_path / "step-000000010").rename(tmp_path / "step-000000099")
    newest = store.newest()
    assert isinstance(newest, Checkpoint) and newest.step == 20 and newest.about == {"config": {"seed": 1}}
    (tmp_path / "step-000000020").rename(tmp_path / "step-000000005")
    newest = store.newest()
    assert newest is not None and newest.step == 20 and newest.path.name == "step-000000005"
    store.rewind(newest)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000000005", "step-000000099"]
    store.rewind(store.load(tmp_path / "step-000000099"))
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000099"]


def test_segments_of_the_checkpoint_that_is_used_stay_whatever_its_folder_is_called(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    segment = store.write_segment(0, 5, {})
    store.save(10, {"step": 10}, [segment])
    (tmp_path / "step-000000010").rename(tmp_path / "mine")
    store.rewind(store.load(tmp_path / "mine"))
    assert store.load(tmp_path / "mine").segments == (segment,)


@pytest.mark.parametrize("spoil", ["folder", "circle", "link", "pipe", "dangling"])
def test_a_lock_that_is_no_file_is_one_sentence(tmp_path: Path, spoil: str) -> None:
    path = RunFolder.create(tmp_path, "run", {}).path
    other = tmp_path / "precious"
    other.write_text("precious")
    lock = path / ".lock"
    lock.unlink()
    if spoil == "folder":
        lock.mkdir()
    elif spoil == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to({"circle": lock, "link": other, "dangling": tmp_path / "nowhere"}[spoil])
    for look in (take_lock, held_by):
        with pytest.raises(RunError, match=r"\.lock"):
            look(path)
    assert other.read_text() == "precious" and not (tmp_path / "nowhere").exists()


def test_a_full_disk_at_the_start_leaves_nothing(small_disk: Path) -> None:  # noqa: F811
    with pytest.raises(OSError):  # names run out before bytes
        for number in range(100):
            (small_disk / f"fill-{number}").touch()
    full = sorted(path.name for path in small_disk.iterdir())
    for free in range(1, 6):  # room for the folders, the lock, the configuration, ...
        (small_disk / full.pop()).unlink()
        for make in (
            lambda: RunFolder.create(small_disk / "out" / "runs", "run", {"seed": 0}),
            lambda: RunFolder.begin(small_disk / "out" / "run", {"seed": 0}),
        ):
            try:
                made = make()
            except RunError as error:
                assert "No space left on device" in str(error)
                assert sorted(path.name for path in small_disk.iterdir()) == full, f"{free} names free"
            else:
                assert free >= 5, "a folder, and in it a lock, a configuration and a manifest, each once under way"
                made.close()
                shutil.rmtree(small_disk / "out")
