"""The sync promise on real Meta-World."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.training.schedule import Schedule
from envs.build import build_suite
from envs.config import EnvConfig
from tests.cluster.runs import TINY, Setup, rows_of, train

SCHEDULE = Schedule(
    total_steps=60,
    chunk_steps=20,
    log_every=20,
    checkpoint_every=60,
    evaluate_every=40,
    evaluation_episodes=1,
    final_episodes=1,
    protocol="suite",
)


@pytest.mark.cluster
def test_two_workers_write_the_bytes_of_one_process(tmp_path: Path, ray_session: None) -> None:
    suite = build_suite(EnvConfig(name="pair", tasks=["reach-v3", "drawer-close-v3"], horizon=30))
    agent = replace(TINY, warmup_steps=20)
    setup = Setup(suite, ClusterConfig(kind="inline"), SCHEDULE, agent, method="samgs", copies=1)
    inline = train(setup, tmp_path, "inline")
    workers = replace(setup, cluster=ClusterConfig(kind="local", workers=2))
    assert rows_of(train(workers, tmp_path, "workers")) == rows_of(inline)
    assert b'"successes_any"' in rows_of(inline)["evaluations"]
