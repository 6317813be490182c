"""Real nodes and processes, killed while a run goes on: sync runs have the same bytes, async runs exact counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from mtrl_surgery.commands.bench.chaos_nodes import LocalNodes
from mtrl_surgery.runs.folder import read_rows
from tests.cluster.drivers import TOYS, Driver, launch, slow_setup, undisturbed_rows
from tests.cluster.parts import factory_suite
from tests.cluster.runs import Setup, rows_of
from tests.cluster.toys import trap

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    """A head and another node; every driver of this module joins them."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # the nodes' processes inherit it
    cluster = LocalNodes(cpus=2)  # the head stays; tests remove and add others
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
    return undisturbed_rows(setup, folder, "undisturbed")


@pytest.fixture(scope="module")
def longer(folder: Path) -> Setup:
    """More tasks than the nodes have CPUs, and half a minute for all of it."""
    return slow_setup(folder, "slower", tasks=4, total=800)


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
    assert driver.finish() == 0
    replaced = next(event for event in driver.events("worker replaced") if event["pid"] == victim)
    assert replaced["reason"] == "worker hung" and "cluster.hang_timeout" in replaced["text"]
    assert assert_as_if_undisturbed(driver, setup, undisturbed)["worker hung"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_slow_worker_is_not_waited_for(
    mode: str, nodes: LocalNodes, longer: Setup, longer_undisturbed: dict[str, bytes], folder: Path
) -> None:
    setup = joined(longer, nodes, mode, hang_timeout=300.0)
    driver = launch(setup, folder, f"slow-{mode}")
    driver.until_step(300)  # the policy acts since step 40, so the workers' speeds are known
    victim = collecting(driver, nodes)
    os.kill(victim, signal.SIGSTOP)
    late = driver.until(lambda: driver.events("worker late"))
    assert late[0]["pid"] == victim
    step = driver.rows()[-1]["step"]
    driver.until(lambda: driver.rows()[-1]["step"] >= step + 100)  # the run goes on without it
    os.kill(victim, signal.SIGCONT)
    driver.until(lambda: any(one["pid"] == victim and one["state"] == "ready" for one in workers_of(driver)))
    assert driver.finish() == 0
    assert not driver.events("worker replaced")
    assert assert_as_if_undisturbed(driver, setup, longer_undisturbed)["worker late"] >= 1


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
    nodes.add(2)  # one CPU for the replacement that waits, one for a fourth worker
    driver.until(lambda: [one["state"] for one in workers_of(driver)] == ["ready"] * 4)
    new = set(nodes.workers(nodes.nodes[-1]))
    assert driver.until(lambda: [one for one in workers_of(driver) if one["pid"] in new and one["tasks"]])
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
    assert set(assert_as_if_undisturbed(driver, setup, longer_undisturbed)) <= {"worker late"}, "nothing was lost"
    nodes.add(1)


def command(out: Path, setup: Setup, address: str) -> list[str]:
    """The command line of the same run."""
    agent, schedule = setup.agent, setup.schedule
    words = {
        "env.kind": "factory", "env.name": "own", "env.factory": TOYS, "env.horizon": setup.suite.horizon,
        "env.tasks": "[" + ",".join(f"'{task}'" for task in setup.suite.tasks) + "]",
        "method": setup.method, "seed": setup.seed, "env.copies": setup.copies, "device": "cpu", "threads": 1,
        "agent.hidden_sizes": "[16,16]", "agent.batch_size": agent.batch_size, "diagnostics.every": 7,
        "agent.warmup_steps": agent.warmup_steps, "agent.updates_per_step": agent.updates_per_step,
        "total_steps": schedule.total_steps, "log_every": schedule.log_every, "out": out,
        "checkpoint.every": schedule.checkpoint_every, "evaluation.every": schedule.evaluate_every,
        "evaluation.episodes": schedule.evaluation_episodes, "evaluation.final_episodes": schedule.final_episodes,
        "evaluation.protocol": schedule.protocol, "cluster": "ray", "cluster.address": address,
        "cluster.chunk_steps": schedule.chunk_steps,
    }  # fmt: skip
    return [sys.executable, "-m", "mtrl_surgery", "train", *(f"{key}={value}" for key, value in words.items())]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "drained"])
def test_a_driver_that_ends_is_resumed_by_the_command_line(
    how: str, nodes: LocalNodes, setup: Setup, folder: Path
) -> None:
    out, quick = folder / how, folder / "quick"
    quick.touch()
    assert subprocess.run(command(out / "whole", setup, nodes.address), cwd=REPOSITORY, check=False).returncode == 0
    quick.unlink()
    process = subprocess.Popen(command(out / "cut", setup, nodes.address), cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while not list(out.glob("cut/*/checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (cut,), (whole,) = out.glob("cut/*"), out.glob("whole/*")
    if how == "killed":
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    else:
        nodes.drain(nodes.head, seconds=300)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert [row for row in read_rows(cut / "health.jsonl") if row.get("event") == "drain notice"]
    assert read_rows(cut / "metrics.jsonl")[-1]["step"] < setup.schedule.total_steps
    resumed = [sys.executable, "-m", "mtrl_surgery", "train", f"resume={cut}"]
    if how == "drained":
        resumed += ["cluster.kind=local", "cluster.address=null"]  # the head node takes no new workers
    assert subprocess.run(resumed, cwd=REPOSITORY, check=False).returncode == 0
    assert rows_of(cut) == rows_of(whole)
