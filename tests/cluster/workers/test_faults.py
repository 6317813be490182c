"""Real nodes and processes, killed while a run goes on: sync runs have the same bytes, async runs exact counts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.nodes import LocalNodes, strike
from cluster.config import ClusterConfig
from mtrl_surgery.runs.folder import RunFolder, read_rows
from tests.cluster.drivers import TOYS, TRAIN, Driver, command, kill_all, launch, slow_setup, undisturbed_rows
from tests.cluster.parts import factory_suite
from tests.cluster.runs import Setup, rows_of
from tests.cluster.shared_nodes import SharedNodes
from tests.cluster.toys import trap

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def shared_nodes() -> Iterator[SharedNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))  # the nodes' processes inherit it
        shared = SharedNodes()
        yield shared
        shared.close()


@pytest.fixture
def nodes(shared_nodes: SharedNodes) -> Iterator[LocalNodes]:
    """A head of two CPUs and a node of one that nobody uses; every driver of the test joins them."""
    yield shared_nodes.restored()
    kill_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def setup(folder: Path) -> Setup:
    """Some seconds, of which the first may be slow: see `launch`."""
    return slow_setup(folder, tasks=3, total=200)


@pytest.fixture(scope="module")
def undisturbed(setup: Setup, folder: Path) -> dict[str, bytes]:
    return undisturbed_rows(setup, folder, "undisturbed")


@pytest.fixture(scope="module")
def longer(folder: Path) -> Setup:
    """More tasks than the nodes have CPUs, and slow steps for a minute or more."""
    return slow_setup(folder, tasks=4, total=2_000)


@pytest.fixture(scope="module")
def longer_undisturbed(longer: Setup, folder: Path) -> dict[str, bytes]:
    return undisturbed_rows(longer, folder, "longer-undisturbed")


def joined(setup: Setup, nodes: LocalNodes, mode: str, **options: Any) -> Setup:
    return replace(setup, cluster=ClusterConfig(kind="ray", address=nodes.address, mode=mode, **options))


def collecting(driver: Driver, nodes: LocalNodes) -> int:
    """The process of a worker that is in the middle of a chunk."""
    driver.until_step(60)
    return int(driver.until(lambda: nodes.all_workers("ray::RolloutWorker.collect"))[0])


def workers_of(driver: Driver) -> list[dict[str, Any]]:
    """What the newest row of health tells of the workers."""
    return next((row["rollout_workers"] for row in reversed(driver.rows()) if "rollout_workers" in row), [])


def assert_as_if_undisturbed(driver: Driver, setup: Setup, undisturbed: dict[str, bytes]) -> dict[str, int]:
    """Sync: the same bytes. Async: the schedule's counts. Both: every chunk was used, or dropped for a reason.

    Returns:
        How many chunks were dropped, by reason.
    """
    (end,) = driver.events("end")
    assert end["chunks_in_flight"] == 0
    assert end["chunks_ordered"] == end["chunks_used"] + sum(end["chunks_dropped"].values())
    total, tasks = setup.schedule.total_steps, len(setup.suite.tasks)
    assert end["chunks_used"] == tasks * total // setup.schedule.chunk_steps
    if setup.cluster.mode == "sync":
        assert rows_of(driver.path) == undisturbed
        return dict(end["chunks_dropped"])
    metrics, evaluations = driver.rows("metrics"), driver.rows("evaluations")
    assert metrics[-1]["step"] == total and metrics[-1]["updates"] == (total - 40) // 2
    finished = sum(row["train/episodes"] for row in metrics if row["task"] is not None)
    assert finished == tasks * (total // setup.suite.horizon)
    assert [row["task"] for row in evaluations if row["step"] == total] == list(setup.suite.tasks)
    return dict(end["chunks_dropped"])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_worker_killed_in_the_middle_of_a_chunk(
    mode: str, nodes: LocalNodes, setup: Setup, undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(setup, nodes, mode)
    driver = launch(setup, folder, f"killed-{mode}")
    victim = collecting(driver, nodes)
    os.kill(victim, signal.SIGKILL)
    driver.until(lambda: driver.events("recovered"))
    assert driver.finish() == 0
    (replaced,) = driver.events("worker replaced")
    assert replaced["pid"] == victim and replaced["reason"] == "worker died"
    assert driver.events("recovered")[0]["seconds"] < 30
    assert assert_as_if_undisturbed(driver, setup, undisturbed)["worker died"] >= 1


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_a_hung_worker_is_replaced(
    mode: str, nodes: LocalNodes, setup: Setup, undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(setup, nodes, mode, hang_timeout=1.5)
    driver = launch(setup, folder, f"hung-{mode}")
    victim = collecting(driver, nodes)
    os.kill(victim, signal.SIGSTOP)
    driver.until(lambda: driver.events("recovered"))
    assert driver.finish() == 0
    replaced = next(event for event in driver.events("worker replaced") if event["pid"] == victim)
    assert replaced["reason"] == "worker hung" and "cluster.hang_timeout" in replaced["text"]
    assert assert_as_if_undisturbed(driver, setup, undisturbed)["worker hung"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_slow_worker_is_not_waited_for(
    mode: str, nodes: LocalNodes, longer: Setup, longer_undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(longer, nodes, mode, hang_timeout=3.0)
    driver = launch(setup, folder, f"slow-{mode}")
    driver.until_step(300)  # the policy acts since step 40, so the workers' speeds are known
    victim = collecting(driver, nodes)

    def slow_down() -> list[dict[str, Any]]:
        """It does a step now and then, so it's never silent for long."""
        if strike(victim, signal.SIGSTOP):
            time.sleep(1.0)
            strike(victim, signal.SIGCONT)
        time.sleep(0.02)
        return driver.events("worker replaced")

    replaced = driver.until(slow_down)[0]
    assert replaced["pid"] == victim and replaced["reason"] == "worker hung"
    assert "for a chunk that should take" in replaced["text"]
    driver.until(lambda: driver.events("recovered"))
    assert driver.finish() == 0
    assert assert_as_if_undisturbed(driver, setup, longer_undisturbed)["worker hung"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_environment_that_raised_is_tried_again(mode: str, nodes: LocalNodes, setup: Setup, folder: Path) -> None:
    marker, quick = folder / f"raised-{mode}", folder / "quick"
    names = [trap("raise-once", 75, marker), trap("slow.1", 0, quick), trap("slow.2", 0, quick)]
    setup = replace(setup, suite=factory_suite(TOYS, names))
    marker.touch()
    undisturbed = undisturbed_rows(setup, folder, f"raising-undisturbed-{mode}")
    marker.unlink()
    setup = joined(setup, nodes, mode)
    driver = launch(setup, folder, f"raising-{mode}")
    assert driver.finish() == 0
    (replaced,) = driver.events("worker replaced")
    assert replaced["reason"] == "environment failed" and "the motor got stuck" in replaced["text"]
    assert assert_as_if_undisturbed(driver, setup, undisturbed)["environment failed"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_nodes_that_vanish_and_join(
    mode: str, nodes: LocalNodes, longer: Setup, longer_undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(longer, nodes, mode)
    driver = launch(setup, folder, f"nodes-{mode}")
    driver.until_step(60)
    other = nodes.nodes[-1]
    lost = set(driver.until(lambda: nodes.workers(other)))
    nodes.remove(other)
    driver.until(lambda: lost <= {event["pid"] for event in driver.events("worker replaced")})
    new = nodes.add(2)  # one CPU for the replacement that waits, one for a fourth worker

    def at_work() -> list[dict[str, Any]]:
        pids = nodes.workers(new)
        return [one for one in workers_of(driver) if one["pid"] in pids and one["tasks"]]

    driver.until(lambda: len(at_work()) == 2)
    assert driver.finish() == 0
    assert_as_if_undisturbed(driver, setup, longer_undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_drained_nodes_workers_move_away(
    mode: str, nodes: LocalNodes, longer: Setup, longer_undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(longer, nodes, mode)
    driver = launch(setup, folder, f"drained-{mode}")
    driver.until_step(60)
    other = nodes.nodes[-1]
    leaving = set(driver.until(lambda: nodes.workers(other)))
    nodes.drain(other, seconds=60)
    driver.until(lambda: leaving <= {event["pid"] for event in driver.events("worker left")})
    nodes.remove(other)
    assert driver.finish() == 0
    assert not driver.events("worker replaced")
    assert not assert_as_if_undisturbed(driver, setup, longer_undisturbed), "nothing was lost"


@pytest.mark.slow
def test_a_driver_that_is_told_to_end_before_it_has_begun(nodes: LocalNodes, setup: Setup, folder: Path) -> None:
    driver = launch(joined(setup, nodes, "sync"), folder, "not-begun")
    driver.until(nodes.all_workers)  # they build their simulators; no checkpoint can be written
    driver.process.terminate()
    assert driver.finish() == 128 + signal.SIGTERM
    manifest = RunFolder.open(driver.path).manifest()
    assert (manifest["status"], manifest["error"]) == ("interrupted", None)


@pytest.fixture(scope="module")
def whole(setup: Setup, folder: Path) -> dict[str, bytes]:
    """The rows of a run that the command line made in one process, to its end."""
    (folder / "quick").touch()
    words = command(setup, folder / "whole", "cluster=inline")
    assert subprocess.run(words, cwd=REPOSITORY, check=False).returncode == 0
    return rows_of(*folder.glob("whole/*"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "drained"])
def test_a_driver_that_ends_is_resumed_by_the_command_line(
    how: str, nodes: LocalNodes, setup: Setup, folder: Path, whole: dict[str, bytes]
) -> None:
    out, quick = folder / how, folder / "quick"
    quick.unlink(missing_ok=True)
    words = command(setup, out / "cut", "cluster=ray", f"cluster.address={nodes.address}")
    with subprocess.Popen(words, cwd=REPOSITORY) as process:
        try:
            cut = stopped(process, how, nodes, out / "cut")
        finally:
            process.kill()
    assert read_rows(cut / "metrics.jsonl")[-1]["step"] < setup.schedule.total_steps
    quick.touch()
    resumed = [*TRAIN, f"resume={cut}"]
    if how == "drained":
        resumed += ["cluster.kind=local", "cluster.address=null"]  # the head node takes no new workers
    assert subprocess.run(resumed, cwd=REPOSITORY, check=False).returncode == 0
    assert rows_of(cut) == whole


def stopped(process: subprocess.Popen[bytes], how: str, nodes: LocalNodes, out: Path) -> Path:
    """The folder of a run that was killed or drained after its first checkpoint."""
    deadline = time.monotonic() + 120
    while not list(out.glob("*/checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (cut,) = out.glob("*")
    if how == "killed":
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    else:
        nodes.drain(nodes.head, seconds=300)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert [row for row in read_rows(cut / "health.jsonl") if row.get("event") == "drain notice"]
    return cut


@pytest.mark.slow
def test_the_next_test_finds_a_whole_cluster(shared_nodes: SharedNodes) -> None:
    nodes, whole = shared_nodes.restored(), [(2, 2), (1, 1)]
    heeds = signal.getsignal(signal.SIGTERM)
    nodes.add(2)
    assert signal.getsignal(signal.SIGTERM) is heeds, "a process that is told to end must not go on without its nodes"
    assert shared_nodes.restored() is nodes and [nodes.cpus(node) for node in nodes.nodes] == whole
    nodes.drain(nodes.nodes[1], seconds=60)
    assert shared_nodes.restored() is nodes and [nodes.cpus(node) for node in nodes.nodes] == whole
    nodes.drain(nodes.head, seconds=60)
    other = shared_nodes.restored()
    assert other is not nodes and [other.cpus(node) for node in other.nodes] == whole
