"""What an agent measures on the random warm-up is measured on that alone, and the policy's first step has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from agents.observations import MIN_STD
from agents.policy import Policy
from cluster.config import ClusterConfig
from cluster.training.collect import ChunkOrder, CollectSpec
from cluster.training.inline import InlineCollector
from mtrl_surgery.runs.folder import RunFolder
from tests.cluster.parts import classic_suite
from tests.cluster.runs import SCHEDULE, TINY, Setup, build, problem_of


class Noting(InlineCollector):
    """Notes the orders; in async mode each task has a worker of its own, and the first always answers first."""

    def __init__(self, spec: CollectSpec, mode: str) -> None:
        super().__init__(spec)
        self.ordered: list[tuple[ChunkOrder, tuple[int, ...]]] = []
        self._async = mode == "async"

    def idle(self) -> list[tuple[int, ...]]:
        return [(0,), (1,)] if self._async else super().idle()

    def submit(self, order: ChunkOrder, tasks: Sequence[int]) -> None:
        super().submit(order, tasks)
        self.ordered.append((order, tuple(tasks)))
        self._orders = deque(sorted(self._orders, key=lambda one: one[1]))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("warmup", [40, 45])  # at the end of a chunk, and within one, whose rest is random too
def test_every_chunk_of_the_policy_has_the_statistics_of_all_random_chunks(
    tmp_path: Path, mode: str, warmup: int
) -> None:
    agent = replace(TINY, observation_normalization="warmup", warmup_steps=warmup)
    setup = Setup(classic_suite(), ClusterConfig(kind="inline", mode=mode, max_lead=3), SCHEDULE, agent)
    policy = partial(Policy, problem_of(setup.suite), setup.agent)
    collector = Noting(CollectSpec(setup.suite, setup.copies, setup.seed, policy), mode)
    with RunFolder.create(tmp_path, mode, {"seed": 0}) as folder:
        trainer = build(setup, folder, collector)
        trainer.run()
    random = -(-warmup // 20) * 20
    dim = setup.suite.observation_dim
    rows = trainer.learner.replay.segment(0, random * setup.copies)["rows"][..., :dim].reshape(-1, dim)
    expected = [rows.mean(0), 1 / np.maximum(rows.std(0), MIN_STD)]
    for order, tasks in collector.ordered:
        assert (order.weights is None) == (order.index * 20 < random), (order.index, tasks)
        if order.weights is not None:
            np.testing.assert_allclose(order.weights[-2 * dim :].reshape(2, dim), expected, rtol=1e-5)
    assert {task for order, tasks in collector.ordered if order.weights is not None for task in tasks} == {0, 1}
