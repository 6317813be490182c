"""Collectors: the same chunks to the bit from one process, one worker or two, and over a worker's death."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.assembly import make_collector
from cluster.config import ClusterConfig, ClusterError
from cluster.training.collect import (
    Collector,
    CollectSpec,
    Evaluated,
    EvaluationOrder,
    Lost,
)
from cluster.training.inline import InlineCollector
from envs.errors import EnvironmentFailure, NotDeterministicError
from envs.rollout import Chunk
from tests.cluster.parts import (
    assert_same_chunk,
    classic_suite,
    collect_chunk,
    factory_suite,
    make_spec,
    order_of,
    weights_of,
)
from tests.cluster.toys import trap

TOYS = "tests.cluster.toys:make"
CHUNKS = 4


@contextmanager
def opened(spec: CollectSpec, config: ClusterConfig) -> Iterator[Collector]:
    collector = make_collector(spec, config)
    try:
        collector.start(None)
        yield collector
    finally:
        collector.close()


@pytest.fixture(scope="module")
def spec() -> CollectSpec:
    return make_spec(classic_suite())


@pytest.fixture(scope="module")
def chunks(spec: CollectSpec) -> list[Chunk]:
    collector = InlineCollector(spec)
    collector.start(None)
    return [collect_chunk(collector, order_of(spec.suite, index)) for index in range(CHUNKS)]


def evaluation(spec: CollectSpec) -> EvaluationOrder:
    return EvaluationOrder(step=60, updates=9, weights=weights_of(spec.suite, 7), episodes=2, protocol="suite")


def wait_for_evaluations(collector: Collector) -> list[Evaluated]:
    done: list[Evaluated] = []
    while not done:
        time.sleep(0.05)
        done = collector.evaluations()
    return done


def test_a_collector_goes_on_from_positions_with_the_same_bits(spec: CollectSpec, chunks: list[Chunk]) -> None:
    first, second = InlineCollector(spec), InlineCollector(spec)
    first.start(None)
    for index in range(2):
        collect_chunk(first, order_of(spec.suite, index))
    second.start(first.positions())
    for index in range(2, CHUNKS):
        assert_same_chunk(collect_chunk(second, order_of(spec.suite, index)), chunks[index])


def test_an_evaluation_touches_no_training_stream(spec: CollectSpec, chunks: list[Chunk]) -> None:
    collector = InlineCollector(spec)
    collector.start(None)
    for index in range(CHUNKS):
        collector.evaluate(evaluation(spec))
        assert len(collector.evaluations()) == 1
        assert_same_chunk(collect_chunk(collector, order_of(spec.suite, index)), chunks[index])


def test_a_task_has_one_chunk_in_flight(spec: CollectSpec) -> None:
    collector = InlineCollector(spec)
    with pytest.raises(AssertionError, match="no chunk is in flight"):
        collector.receive()
    collector.submit(order_of(spec.suite, 0), [0, 1])
    with pytest.raises(AssertionError, match="one chunk of a task"):
        collector.submit(order_of(spec.suite, 1), [1])


@pytest.mark.cluster
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_collect_and_evaluate_the_same_bits(
    spec: CollectSpec, chunks: list[Chunk], ray_session: None, workers: int
) -> None:
    inline = InlineCollector(spec)
    inline.evaluate(evaluation(spec))
    (expected,) = inline.evaluations()
    with opened(spec, ClusterConfig(workers=workers)) as collector:
        assert len(collector.workers()) == workers
        for index in range(CHUNKS):
            assert_same_chunk(collect_chunk(collector, order_of(spec.suite, index)), chunks[index])
            if index == 1:
                collector.evaluate(evaluation(spec))
        (evaluated,) = wait_for_evaluations(collector)
        assert evaluated.tasks == expected.tasks
        assert not collector.replaced


@pytest.mark.cluster
def test_a_killed_worker_is_replaced_and_changes_no_bit(tmp_path: Path, ray_session: None) -> None:
    marker = tmp_path / "sprung"
    # 40 steps an episode, chunks of 30: the kill comes in the middle of chunk 2, inside the second episode
    spec = make_spec(factory_suite(TOYS, [trap("kill", 75, marker), trap("none", 0, marker)]), copies=1)
    marker.touch()
    inline = InlineCollector(spec)
    inline.start(None)
    expected = [collect_chunk(inline, order_of(spec.suite, index)) for index in range(CHUNKS)]
    marker.unlink()
    with opened(spec, ClusterConfig(workers=2)) as collector:
        for index in range(CHUNKS):
            assert_same_chunk(collect_chunk(collector, order_of(spec.suite, index)), expected[index])
        assert marker.exists()
        assert len(collector.replaced) == 1
        assert "rollout worker 0 (tasks kill@75" in collector.replaced[0]


@pytest.mark.cluster
def test_an_evaluation_is_done_again_when_its_worker_dies(tmp_path: Path, ray_session: None) -> None:
    marker = tmp_path / "sprung"
    # chunks of 30 take the training simulator to step 30 only; the evaluation's own one reaches 35
    spec = make_spec(factory_suite(TOYS, [trap("kill", 35, marker), trap("none", 0, marker)]), copies=1)
    marker.touch()
    inline = InlineCollector(spec)
    inline.start(None)
    inline.evaluate(evaluation(spec))
    expected = [collect_chunk(inline, order_of(spec.suite, index)) for index in range(2)]
    marker.unlink()
    with opened(spec, ClusterConfig(workers=2)) as collector:
        assert_same_chunk(collect_chunk(collector, order_of(spec.suite, 0)), expected[0])
        collector.evaluate(evaluation(spec))
        (evaluated,) = wait_for_evaluations(collector)
        assert evaluated.tasks == inline.evaluations()[0].tasks
        assert len(collector.replaced) == 1
        assert_same_chunk(collect_chunk(collector, order_of(spec.suite, 1)), expected[1])


@pytest.mark.cluster
def test_an_environment_that_raises_is_tried_once_more_and_told(tmp_path: Path, ray_session: None) -> None:
    spec = make_spec(factory_suite(TOYS, [trap("raise", 10, tmp_path / "never")]), copies=1)
    with opened(spec, ClusterConfig(workers=1)) as collector:
        collector.submit(order_of(spec.suite, 0), [0])
        with pytest.raises(EnvironmentFailure, match=r"episode 0, step 9.*the motor burnt out"):
            collector.receive()
        assert len(collector.replaced) == 1
        assert collector.ledger.dropped == {"environment failed": 1}


@pytest.mark.cluster
def test_async_tells_a_lost_chunk_and_goes_on_from_before_it(tmp_path: Path, ray_session: None) -> None:
    marker = tmp_path / "sprung"
    spec = make_spec(factory_suite(TOYS, [trap("kill", 45, marker)]), copies=1)
    with opened(spec, ClusterConfig(workers=1, mode="async")) as collector:
        first = collect_chunk(collector, order_of(spec.suite, 0))
        collector.submit(order_of(spec.suite, 1), [0])
        lost = collector.receive()
        assert isinstance(lost, Lost)
        assert (lost.tasks, lost.index, lost.steps) == ((0,), 1, 30)
        second = collect_chunk(collector, order_of(spec.suite, 1))
        assert second.obs_KTNO[0, 0].tobytes() == first.next_obs_KTNO[0, -1].tobytes()


@pytest.mark.cluster
def test_positions_of_other_bits_are_refused(spec: CollectSpec, ray_session: None) -> None:
    inline = InlineCollector(spec)
    inline.start(None)
    collect_chunk(inline, order_of(spec.suite, 0))
    positions = inline.positions()
    positions[0, 1] = replace(positions[0, 1], last_obs_O=positions[0, 1].last_obs_O + 1)
    collector = make_collector(spec, ClusterConfig(workers=2))
    with pytest.raises(NotDeterministicError, match="Pendulum-v1"):
        collector.start(positions)
    collector.close()


@pytest.mark.cluster
def test_more_workers_than_cpus_are_told_after_the_timeout(tmp_path: Path, ray_session: None) -> None:
    tasks = [trap(f"none-{number}", 0, tmp_path) for number in range(4)]
    collector = make_collector(make_spec(factory_suite(TOYS, tasks)), ClusterConfig(workers=4, start_timeout=3.0))
    with pytest.raises(ClusterError, match=r"[1-4] of 4 rollout workers .*\(\d of 3 CPUs free, each worker needs"):
        collector.start(None)
    collector.close()
