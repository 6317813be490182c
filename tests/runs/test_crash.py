"""Processes that die, and disks that fill up, while a checkpoint is written."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrl_surgery.runs.checkpoint import CheckpointError, CheckpointStore, load_checkpoint
from mtrl_surgery.runs.jsonl import JsonlWriter, read_rows
from mtrl_surgery.runs.reading import RunError

SAVER = """
import sys
from pathlib import Path
import numpy as np
from mtrl_surgery.runs.checkpoint import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]), keep=2)
found = store.newest()
step, segments = (found.step, list(found.segments)) if found else (0, [])
store.rewind(found)
print("ready", flush=True)
while True:
    step += 1
    segments.append(store.write_segment(step - 1, step, {"x": np.full((3, 1, 2000), step, np.float32)}))
    segments = segments[-3:]
    store.save(step, {"step": step, "w": np.full(50_000, step, np.float32)}, segments)
"""


def segment(store: CheckpointStore, step: int) -> Any:
    return store.write_segment(step - 1, step, {"x": np.full((3, 1, 20), step, np.float32)})


def two_saves(folder: Path) -> None:
    """From a store at step 2 (keep=2) to step 3, and step 3 once more."""
    store = CheckpointStore(folder, keep=2)
    store.rewind(store.load(folder / "step-000000002"))
    latest = [segment(store, 3)]
    store.save(3, {"step": 3}, latest)
    store.save(3, {"step": 3}, latest)


def whole_step(folder: Path) -> int:
    """The newest step, which must load in full and without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = CheckpointStore(folder, keep=2)
        found = store.newest()
        assert found is not None and found.state["step"] == found.step
        for one in found.segments:
            assert (store.read_segment(one)["x"] == one.stop).all()
        return found.step


def die_at(event: int, folder: Path) -> bool:
    """Runs `two_saves` in a fork that dies right before its n-th operation on a name; False if it lived."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(name: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if name in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
                count += 1
                if count > event:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            two_saves(folder)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the saves failed by themselves"
    return status == 9


def test_a_death_before_any_operation_leaves_a_whole_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "start", keep=2)
    for step in (1, 2):
        store.save(step, {"step": step}, [segment(store, step)])
    steps, event = [], 0
    while True:
        folder = tmp_path / str(event)
        shutil.copytree(tmp_path / "start", folder)
        died = die_at(event, folder)
        steps.append(whole_step(folder))
        for path in folder.glob("step-*"):  # not only the newest: what has its name is whole
            load_checkpoint(path)
        two_saves(folder)  # the next process can go on from there
        assert whole_step(folder) == 3
        assert sorted(path.name for path in folder.iterdir()) == [
            "replay",
            "step-000000002",
            "step-000000003",
        ]
        assert len(list((folder / "replay").iterdir())) == 2
        if not died:
            break
        event += 1
    assert event > 30 and set(steps) == {2, 3} and steps == sorted(steps)


def kill_savers(folder: Path, times: int) -> None:
    generator, last = random.Random(0), 0
    for _ in range(times):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(folder)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert saver.stdout is not None and saver.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0.02, 0.3))
        saver.kill()
        saver.wait()
        saver.stdout.close()
        if not list(folder.glob("step-*")) and last == 0:
            continue
        found = whole_step(folder)
        assert found >= last
        last = found
    assert last > times, "hardly anything was saved between the kills"


def test_kill_9_in_the_middle_of_saves(tmp_path: Path) -> None:
    kill_savers(tmp_path, 5)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_saves_many_times(tmp_path: Path) -> None:
    kill_savers(tmp_path, 60)


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    store.save(1, {"step": 1})
    real = os.fsync

    def interrupted(descriptor: int) -> None:
        real(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save(2, {"step": 2})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_half_way_leaves_older_ones_whole(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    store.save(1, {"step": 1}, [segment(store, 1)])
    before = sorted(tmp_path.rglob("*"))
    big = np.zeros(100_000)
    with file_size_limit(50_000):
        with pytest.raises(CheckpointError, match=r"step-000000002: File too large \(80\d,\d+ bytes needed, .* free\)"):
            store.save(2, {"big": big})
        with pytest.raises(CheckpointError, match=r"segment-\S+: File too large"):
            store.write_segment(1, 2, {"big": big})
    assert sorted(tmp_path.rglob("*")) == before and whole_step(tmp_path) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=14", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_before_writing(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints", keep=1)
    store.save(1, {"step": 1}, [segment(store, 1)])
    message = r"step-000000002: no space left on device \(2,\d+,\d+ bytes needed, [\d,]+ bytes free\)"
    with pytest.raises(CheckpointError, match=message):
        store.save(2, {"big": np.zeros(300_000)})
    assert whole_step(small_disk / "checkpoints") == 1


def test_a_disk_that_fills_up_half_way_leaves_older_ones_whole(small_disk: Path) -> None:
    folder = small_disk / "checkpoints"
    store = CheckpointStore(folder, keep=1)
    store.save(1, {"step": 1}, [segment(store, 1)])
    fill = []
    with pytest.raises(OSError) as full:  # no bytes are missing, but names: the failure comes in mid-write
        for number in range(100):
            (small_disk / f"fill-{number}").touch()
            fill.append(small_disk / f"fill-{number}")
    assert full.value.errno == errno.ENOSPC
    for _ in range(3):  # room for nothing, for the folder, for the folder and one file
        with pytest.raises(CheckpointError, match="No space left on device"):
            store.save(2, {"step": 2})
        assert whole_step(folder) == 1 and len(list(folder.iterdir())) == 2
        fill.pop().unlink()
    for path in fill:
        path.unlink()
    store.save(2, {"step": 2})
    assert whole_step(folder) == 2


def test_a_row_that_the_disk_does_not_take_is_not_half_there(small_disk: Path) -> None:
    writer = JsonlWriter(small_disk / "metrics.jsonl")
    row = {"text": "x" * 10_000}
    with pytest.raises(RunError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        for _ in range(200):
            writer.write(row)
    writer.close()
    rows = read_rows(small_disk / "metrics.jsonl")
    assert len(rows) > 50 and all(one == row for one in rows)
    assert (small_disk / "metrics.jsonl").read_bytes().endswith(b"\n")
