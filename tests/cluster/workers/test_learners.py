"""Several learners as Ray actors: what a run of theirs writes, and what happens when one dies."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.config import AgentConfig
from agents.problem import Problem
from agents.sac import SACLearner
from cluster.config import ClusterConfig, ClusterError, LearnerConfig, LearnerLost
from envs.rollout import Chunk
from mtrl_surgery.__main__ import main
from mtrl_surgery.jacobian.sharding import Whole
from mtrl_surgery.methods.registry import find_method, make_method

TASKS = ("one", "two", "three")
RUN = [
    "train", "env=classic", "method=samgs", "cluster=local", "cluster.workers=1", "learner.num=2", "threads=1",
    "agent.hidden_sizes=[16,16]", "agent.batch_size=16", "agent.warmup_steps=100", "cluster.chunk_steps=50",
    "total_steps=400", "evaluation.every=0", "evaluation.final_episodes=1", "checkpoint.every=100", "log_every=50",
    "agent.observation_normalization=warmup", "logger=none",
]  # fmt: skip


def build(sharding: Whole, batch_size: int = 12, observations: int = 5) -> SACLearner:
    problem = Problem(TASKS, observations, 2, np.ones((3, 2)))
    config = AgentConfig(hidden_sizes=[8, 8], batch_size=batch_size, replay_capacity=60, warmup_steps=0)
    methods = [make_method(find_method("moco").config(), 3, network) for network in range(2)]
    return SACLearner(problem, config, methods[0], methods[1], 0, "cpu", sharding=sharding)


def chunk(steps: int, seed: int) -> Chunk:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Chunk(
        seed, (0, 1, 2), normal(3, steps, 1, 5), normal(3, steps, 1, 2), normal(3, steps, 1), normal(3, steps, 1, 5),
        np.zeros((3, steps, 1), bool), np.zeros((3, steps, 1), bool), [],
    )  # fmt: skip


@pytest.fixture
def make_group(ray_session: None) -> Any:
    from cluster.workers.learners import LearnerGroup
    from cluster.workers.session import RaySession

    groups = []

    def make(factory: Any = build, **options: Any) -> LearnerGroup:
        session = RaySession(ClusterConfig(kind="local"), workers=1)
        groups.append(LearnerGroup(factory, LearnerConfig(**({"num": 2} | options)), session, "cpu", 1))
        return groups[-1]

    yield make
    for group in groups:
        group.close()


@pytest.mark.cluster
def test_a_group_keeps_every_transition_once_and_restores_to_the_bit(make_group: Callable[..., Any]) -> None:
    group, alone = make_group(), build(Whole())
    for seed, steps in enumerate((7, 13, 20)):
        group.add(chunk(steps, seed))
        alone.add(chunk(steps, seed))
    assert (group.replay.inserted, group.replay.capacity) == (40, 60)
    np.testing.assert_array_equal(group.replay.segment(3, 38)["rows"], alone.replay.segment(3, 38)["rows"])

    group.update(5)
    saved, segment = group.state_dict(), group.replay.segment(0, 40)
    assert saved["actor"]["method"]["tracked_KP"].shape == alone.actor.parameters.vector_P.expand(3, -1).shape
    group.update(5)
    after = group.policy_weights()

    other = make_group()
    other.replay.load_segment(0, 40, segment)
    other.load_state_dict(saved)
    other.update(5)
    np.testing.assert_array_equal(other.policy_weights(), after)
    assert [row["task"] for row in other.metrics()] == [None, *TASKS]

    os.kill(other.pids()[1], signal.SIGKILL)
    with pytest.raises(LearnerLost, match="died"):
        for _ in range(100):
            other.update(1)


def poison(sharding: Whole) -> SACLearner:
    learner = build(sharding)
    learner.critic.parameters.vector_P.fill_(torch.nan)
    return learner


@pytest.mark.cluster
def test_errors_of_all_learners_reach_the_driver(make_group: Callable[..., Any]) -> None:
    group = make_group(poison)
    group.add(chunk(10, 0))
    group.update(1)
    with pytest.raises(
        ArithmeticError, match="critic's loss or gradient of task 'one' was NaN or infinite at update 0"
    ):
        group.metrics()
    with pytest.raises(ValueError, match=r"batch_size=13 can't be shared out to learner.num=2"):
        make_group(partial(build, batch_size=13))


def build_one_that_refuses(sharding: Whole) -> SACLearner:
    """The second learner takes longer observations: a chunk does not fit into its replay."""
    return build(sharding, observations=5 + sharding.rank)


@pytest.mark.cluster
def test_a_chunk_that_one_learner_refuses_is_heard_of_before_the_next_call(make_group: Callable[..., Any]) -> None:
    group, sent = make_group(build_one_that_refuses), chunk(7, 0)
    state = group.state_dict()
    calls: dict[str, Callable[[], Any]] = {
        "the next chunk": lambda: group.add(sent),
        "what the first learner is asked alone": group.policy_weights,
        "what all are asked": group.metrics,
        "an update": lambda: group.update(1),
        "how many there are": lambda: group.replay.inserted,
        "a checkpoint's state": group.state_dict,
        "a checkpoint's transitions": lambda: group.replay.segment(0, 7),
        "a state that is put back": lambda: group.load_state_dict(state),
        "transitions that are put back": lambda: group.replay.load_segment(
            0, 7, {"rows": np.zeros((3, 7, 14), np.float32)}
        ),
    }
    for number, (name, call) in enumerate(calls.items(), 1):
        group.add(sent)  # goes out; the learners answer while the driver collects
        with pytest.raises(ValueError, match="cannot reshape"):
            call()
            pytest.fail(f"{name} did not hear that the chunk was refused")
        # Said once, and nothing was built on it: the first learner has the chunk, no learner has done an update.
        assert group.replay.inserted == 7 * number, name
        assert group.metrics() == [], name


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def run(out: Path, *words: str) -> Path:
    assert main([*RUN, f"out={out}", *words]) == 0
    (folder,) = out.iterdir()
    return folder


def kill_a_learner(out: Path, stop: threading.Event) -> None:
    """As soon as there is a checkpoint to go on from."""
    from ray._private.state import actors

    while not stop.is_set() and not list(out.glob("*/checkpoints/step-*")):
        time.sleep(0.02)
    found = [one for one in actors().values() if one["ActorClassName"] == "LearnerActor" and one["State"] == "ALIVE"]
    if found:
        os.kill(found[-1]["Pid"], signal.SIGKILL)


@pytest.mark.cluster
def test_a_run_whose_learner_is_killed_writes_what_the_undisturbed_one_does(tmp_path: Path, ray_session: None) -> None:
    whole = run(tmp_path / "whole")
    stop = threading.Event()
    killer = threading.Thread(target=kill_a_learner, args=(tmp_path / "hurt", stop))
    killer.start()
    try:
        hurt = run(tmp_path / "hurt")
    finally:
        stop.set()
        killer.join()
    (event,) = [row for row in rows(hurt, "health") if row.get("event") == "learners restarted"]
    assert event["redone_steps"] >= 0 and event["step"] >= 100 and "died" in event["reason"]
    for name in ("metrics", "evaluations"):
        assert (hurt / f"{name}.jsonl").read_bytes() == (whole / f"{name}.jsonl").read_bytes(), name
    assert json.loads((hurt / "manifest.json").read_text())["status"] == "finished"


def test_what_makes_no_sense_is_said_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, message in {
        "learner.num=0": "learner.num=0 must be at least 1",
        "learner.num=3": "agent.batch_size=16 can't be shared out to learner.num=3",
        "cluster=inline": "learner.num=2 needs Ray",
        "learner.timeout=0": "learner.timeout=0.0 must be positive",
        "learner.gpus=-1": "learner.gpus=-1.0 must not be negative",
    }.items():
        assert main([*RUN, f"out={tmp_path}", word]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ClusterError, match="max_restarts=-1"):
        LearnerConfig(max_restarts=-1).validate()
