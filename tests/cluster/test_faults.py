"""Real nodes and processes, killed while a run goes on: sync runs have the same bytes, async runs exact counts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from mtrl_surgery.commands.bench.chaos_nodes import LocalNodes
from tests.cluster.drivers import Driver, launch, slow_setup
from tests.cluster.runs import Setup, rows_of, train

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    """A head and another node; every driver of this module joins them."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # the nodes' processes inherit it
    cluster = LocalNodes(cpus=2)
    try:
        cluster.add(1)
        yield cluster
    finally:
        cluster.close()
        os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def setup(folder: Path) -> Setup:
    return slow_setup(folder)


@pytest.fixture(scope="module")
def undisturbed(setup: Setup, folder: Path) -> dict[str, bytes]:
    return rows_of(train(setup, folder, "undisturbed"))


def joined(setup: Setup, nodes: LocalNodes, **options: object) -> Setup:
    cluster = ClusterConfig(kind="ray", address=nodes.address, **options)  # type: ignore[arg-type]
    return replace(setup, cluster=cluster)


def busy(driver: Driver) -> dict[str, object]:
    """A worker that has tasks, as the newest row of health tells of it."""
    driver.until_step(60)
    rows = [row for row in driver.rows() if "rollout_workers" in row]
    return next(worker for worker in rows[-1]["rollout_workers"] if worker["tasks"])


def last_health(driver: Driver) -> dict[str, object]:
    return [row for row in driver.rows() if "rollout_workers" in row][-1]


def assert_every_chunk_has_a_fate(driver: Driver) -> dict[str, int]:
    (end,) = driver.events("end")
    assert end["chunks_in_flight"] == 0
    assert end["chunks_ordered"] == end["chunks_used"] + sum(end["chunks_dropped"].values())
    return end["chunks_dropped"]


def assert_exact(driver: Driver, setup: Setup) -> None:
    """Async: the replay's and the limiter's counts at the end are those of the schedule."""
    total, tasks = setup.schedule.total_steps, len(setup.suite.tasks)
    metrics = driver.rows("metrics")
    assert metrics[-1]["step"] == total and metrics[-1]["updates"] == (total - 40) // 2
    finished = sum(row["train/episodes"] for row in metrics if row["task"] is not None)
    assert finished == tasks * (total // 40)
    (end,) = driver.events("end")
    assert end["chunks_used"] == tasks * total // setup.schedule.chunk_steps


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_worker_killed_in_the_middle_of_a_chunk(
    mode: str, nodes: LocalNodes, setup: Setup, undisturbed: dict[str, bytes], folder: Path
) -> None:
    driver = launch(joined(setup, nodes, mode=mode), folder, f"killed-{mode}")
    victim = busy(driver)
    os.kill(int(victim["pid"]), signal.SIGKILL)  # type: ignore[call-overload]
    assert driver.finish() == 0
    (replaced,) = driver.events("worker replaced")
    assert replaced["pid"] == victim["pid"] and replaced["reason"] == "worker died"
    assert driver.events("recovered")[0]["seconds"] < 30
    assert assert_every_chunk_has_a_fate(driver).get("worker died", 0) >= (mode == "sync")
    if mode == "sync":
        assert rows_of(driver.path) == undisturbed
    else:
        assert_exact(driver, setup)
