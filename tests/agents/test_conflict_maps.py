"""The learner's maps: means over looks, written by thinning intervals, the same after a resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agents.metrics import MetricSums
from mtrl_surgery.jacobian.conflict import conflict_map

TASKS = ("a", "b", "c")


class Seen:
    """What a look at a network leaves behind."""

    def __init__(self, seed: int, tasks: int = 3) -> None:
        jacobian_KP = torch.randn(tasks, 5, generator=torch.Generator().manual_seed(seed))
        self.gramian_KK = (jacobian_KP @ jacobian_KP.T).double()
        self.conflicts = {
            "mean_cosine": torch.tensor(0.5),
            "alignment_K": torch.ones(tasks),
            **conflict_map(self.gramian_KK),
        }


def looks(sums: MetricSums, *seeds: int) -> None:
    for seed in seeds:
        sums.add_look({"critic": Seen(seed), "actor": Seen(seed + 100)})  # type: ignore[dict-item]


def test_maps_are_means_over_the_looks_of_an_interval() -> None:
    sums = MetricSums(TASKS)
    looks(sums, 1, 2)
    metrics = sums.rows(9)
    assert not any("KK" in key for row in metrics for key in row), "matrices are no metrics"
    assert metrics[1]["critic/alignment"] == 1 and metrics[0]["critic/mean_cosine"] == 0.5
    critic, actor = sums.maps(9)
    assert (critic["network"], actor["network"], critic["looks"], critic["update"]) == ("critic", "actor", 2, 9)
    assert critic["tasks"] == list(TASKS)
    above = np.triu_indices(3, 1)
    for name in ("cosine", "similarity", "conflict"):
        expected = np.mean([Seen(seed).conflicts[f"{name}_KK"].numpy()[above] for seed in (1, 2)], axis=0)
        np.testing.assert_allclose(critic[name], expected, atol=5.1e-5)
    assert sums.maps(10) == [] and sums.rows(10) == [], "nothing was looked at since"


def test_without_maps_or_with_one_task_there_are_no_rows() -> None:
    alone = MetricSums(("a",))
    alone.add_look({"critic": Seen(0, tasks=1)})  # type: ignore[dict-item]
    assert alone.maps(1) == []
    flat = MetricSums(TASKS)
    seen = Seen(0)
    seen.conflicts = {"mean_cosine": torch.tensor(0.5)}
    flat.add_look({"critic": seen})  # type: ignore[dict-item]
    assert flat.maps(1) == [] and flat.rows(1)[0]["critic/mean_cosine"] == 0.5


@pytest.mark.parametrize("cut", [3, 65, 67])
def test_a_resumed_run_writes_the_same_maps(cut: int) -> None:
    def run(first: int, last: int, sums: MetricSums) -> list[Any]:
        written = []
        for interval in range(first, last):
            looks(sums, interval)
            written.append((sums.rows(interval), sums.maps(interval)))
        return written

    whole = run(0, 72, MetricSums(TASKS))
    before = MetricSums(TASKS)
    start = run(0, cut, before)
    after = MetricSums(TASKS)
    after.load_state_dict(before.state_dict())
    assert start + run(cut, 72, after) == whole
    assert [bool(maps) for _, maps in whole[62:68]] == [True, True, False, True, False, True]
    assert whole[65][1][0]["looks"] == 2, "the interval without rows is in the next ones"


def test_a_checkpoint_of_before_there_were_maps_is_taken() -> None:
    sums = MetricSums(TASKS)
    sums.load_state_dict({"sums": {"update": {}, "look": {}}, "counts": {"update": 0, "look": 0}})
    looks(sums, 1)
    assert len(sums.maps(1)) == 2
