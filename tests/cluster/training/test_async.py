"""Async mode keeps the counts: every transition once, updates never beyond what the slowest task paid for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agents.policy import Policy
from cluster.config import ClusterConfig, ClusterError
from cluster.training.collect import ChunkOrder, Collected, CollectSpec
from cluster.training.driver import Trainer
from cluster.training.inline import InlineCollector
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder, read_rows
from tests.cluster.parts import classic_suite, factory_suite
from tests.cluster.runs import Setup, build, problem_of
from tests.cluster.toys import trap

INLINE = ClusterConfig(kind="inline", mode="async")
LOCAL = ClusterConfig(kind="local", workers=2, mode="async")
UPDATES = (150 - 40) // 2


def assert_exact(trainer: Trainer, setup: Setup, path: Path) -> None:
    """Transitions, updates and rows of a finished run of 150 steps."""
    assert trainer.learner.replay.inserted_K.tolist() == [150 * setup.copies] * len(setup.suite.tasks)  # type: ignore[attr-defined]
    assert trainer.limiter.updates == trainer.learner.updates == UPDATES  # type: ignore[attr-defined]
    metrics, evaluations = read_rows(path / "metrics.jsonl"), read_rows(path / "evaluations.jsonl")
    assert metrics[-1]["step"] == 150 and metrics[-1]["updates"] == UPDATES
    finished = sum(row["train/episodes"] for row in metrics if row["task"] is not None)
    assert finished == len(setup.suite.tasks) * setup.copies * (150 // 40)
    assert evaluations[-1]["step"] == 150 and evaluations[-1]["episodes"] == 3
    steps = [row["step"] for row in evaluations]
    assert steps == sorted(steps)


def test_inline_counts_are_exact(tmp_path: Path) -> None:
    setup = Setup(classic_suite(), INLINE)
    with RunFolder.create(tmp_path, "inline", {"seed": 0}) as folder:
        trainer = build(setup, folder)
        trainer.run()
    assert_exact(trainer, setup, folder.path)


def test_an_async_checkpoint_is_no_sync_one(tmp_path: Path) -> None:
    setup = Setup(classic_suite(), INLINE)
    with RunFolder.create(tmp_path, "inline", {"seed": 0}) as folder:
        build(setup, folder).run()
        checkpoint = CheckpointStore(folder.checkpoints, 100).newest()
        other = build(replace(setup, cluster=ClusterConfig(kind="inline")), folder)
        with pytest.raises(ClusterError, match="the checkpoint has mode = 'async', this run has 'sync'"):
            other.run(checkpoint)


class Unfair(InlineCollector):
    """Two tasks, each as if it had a worker of its own; the first always answers first. Notes how far orders reach."""

    def __init__(self, spec: CollectSpec) -> None:
        super().__init__(spec)
        self.collected = [0, 0]
        self.leads: list[int] = []

    def idle(self) -> list[tuple[int, ...]]:
        return [(0,), (1,)]

    def submit(self, order: ChunkOrder, tasks: Sequence[int]) -> None:
        super().submit(order, tasks)
        (task,) = tasks
        self.leads.append(self.collected[task] + order.steps - min(self.collected))
        self._orders = deque(sorted(self._orders, key=lambda one: one[1]))

    def receive(self, timeout: float | None = None) -> Collected:
        received = super().receive(timeout)
        self.collected[received.chunk.tasks[0]] += received.chunk.reward_KTN.shape[1]
        return received


@pytest.mark.parametrize("max_lead", [1, 3])
def test_a_fast_task_leads_by_at_most_the_limit(tmp_path: Path, max_lead: int) -> None:
    setup = Setup(classic_suite(), replace(INLINE, max_lead=max_lead))
    with RunFolder.create(tmp_path, "unfair", {"seed": 0}) as folder:
        policy = partial(Policy, problem_of(setup.suite), setup.agent)
        collector = Unfair(CollectSpec(setup.suite, setup.copies, setup.seed, policy))
        trainer = build(setup, folder, collector)
        trainer.run()
    assert_exact(trainer, setup, folder.path)
    assert max(collector.leads) == max_lead * setup.schedule.chunk_steps


@pytest.mark.cluster
def test_two_workers_resumed_from_any_checkpoint_have_exact_counts(tmp_path: Path, ray_session: None) -> None:
    setup = Setup(classic_suite(), LOCAL)
    with RunFolder.create(tmp_path, "two", {"seed": 0}) as folder:
        trainer = build(setup, folder)
        trainer.run()
        assert_exact(trainer, setup, folder.path)
        first = CheckpointStore(folder.checkpoints, 100)
        path = min(folder.checkpoints.glob("step-*"))
        again = build(setup, folder)
        again.run(first.load(path))
        assert_exact(again, setup, folder.path)


@pytest.mark.cluster
def test_a_dead_workers_chunk_is_dropped_told_and_made_up_for(tmp_path: Path, ray_session: None) -> None:
    marker = tmp_path / "sprung"
    suite = factory_suite("tests.cluster.toys:make", [trap("kill", 75, marker), trap("none", 0, marker)])
    setup = Setup(suite, LOCAL, copies=1)
    with RunFolder.create(tmp_path, "dying", {"seed": 0}) as folder:
        trainer = build(setup, folder)
        trainer.run()
    assert_exact(trainer, setup, folder.path)
    health = read_rows(folder.path / "health.jsonl")
    (lost,) = [row for row in health if row.get("event") == "chunk lost"]
    assert lost["tasks"] == [0] and lost["steps_lost"] == 20 and "ActorDiedError" in lost["reason"]
    assert [row["restarts"] for row in health if "restarts" in row][-1] == 1
