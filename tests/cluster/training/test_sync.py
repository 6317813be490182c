"""Sync mode: the same bytes whatever collects, whoever dies, wherever it's cut."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ClusterConfig, ClusterError
from mtrl_surgery.runs.folder import RunFolder, read_rows
from tests.cluster.parts import classic_suite
from tests.cluster.runs import SCHEDULE, Setup, resume, rows_of, train


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup(classic_suite())


@pytest.fixture(scope="module")
def inline(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run in this process, with every checkpoint kept."""
    return train(setup, tmp_path_factory.mktemp("runs"), "inline")


def test_a_run_ends_with_exact_counts_and_both_kinds_of_rows(setup: Setup, inline: Path) -> None:
    metrics, evaluations = read_rows(inline / "metrics.jsonl"), read_rows(inline / "evaluations.jsonl")
    assert sorted({row["step"] for row in metrics}) == [40, 60, 100, 120, 150]
    assert [row["task"] for row in metrics[:3]] == [None, *setup.suite.tasks]
    assert metrics[-1]["updates"] == (150 - 40) // 2
    assert {row["step"]: row["episodes"] for row in evaluations} == {60: 2, 120: 2, 150: 3}
    assert [row["task"] for row in evaluations] == 3 * list(setup.suite.tasks)
    finished = sum(row["train/episodes"] for row in metrics if row["task"] == "Pendulum-v1")
    assert finished == 2 * (150 // 40)
    with RunFolder.open(inline) as folder:
        assert folder.manifest()["status"] == "finished"


def test_the_same_run_twice_has_the_same_bytes(setup: Setup, inline: Path, tmp_path: Path) -> None:
    assert rows_of(train(setup, tmp_path, "again")) == rows_of(inline)


def test_another_seed_or_chunk_length_is_another_run(setup: Setup, inline: Path, tmp_path: Path) -> None:
    assert rows_of(train(replace(setup, seed=6), tmp_path, "seed")) != rows_of(inline)
    longer = replace(setup, schedule=replace(SCHEDULE, chunk_steps=30))
    assert rows_of(train(longer, tmp_path, "chunk")) != rows_of(inline)


def test_a_resume_from_any_checkpoint_writes_the_same_bytes(setup: Setup, inline: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (inline / "checkpoints").glob("step-*"))
    assert names == [f"step-{step:09d}" for step in (60, 100, 150)]
    for name in names:
        copy = tmp_path / name
        shutil.copytree(inline, copy)
        resume(setup, copy, copy / "checkpoints" / name)
        assert rows_of(copy) == rows_of(inline), name


def test_a_finished_run_that_goes_on_is_the_longer_run(setup: Setup, inline: Path, tmp_path: Path) -> None:
    longer = replace(setup, schedule=replace(SCHEDULE, total_steps=200))
    short = replace(setup, schedule=replace(SCHEDULE, total_steps=120))
    path = train(short, tmp_path, "short")
    resume(longer, path)
    assert rows_of(path) == rows_of(train(longer, tmp_path, "long"))


def test_a_shorter_total_than_the_checkpoint_is_refused(setup: Setup, inline: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(inline, copy)
    short = replace(setup, schedule=replace(SCHEDULE, total_steps=100))
    with pytest.raises(ClusterError, match=r"total_steps=100 .* step 150"):
        resume(short, copy)
    assert rows_of(copy) == rows_of(inline)


@pytest.mark.cluster
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_workers_change_no_byte(
    setup: Setup, inline: Path, tmp_path: Path, ray_session: None, workers: int
) -> None:
    cluster = ClusterConfig(kind="local", workers=workers)
    path = train(replace(setup, cluster=cluster), tmp_path, f"workers-{workers}")
    assert rows_of(path) == rows_of(inline)
