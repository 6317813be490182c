"""Sharing out tasks: every task once, about evenly, with few moves; and speeds learned from what workers report."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.workers.assignment import GAIN, Speeds, assign

COSTS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=12)
SLOWNESS = st.dictionaries(st.integers(0, 8), st.floats(0.1, 10.0), min_size=1, max_size=5)


def finish(cost_K: list[float], slowness: dict[int, float], owner: dict[int, int]) -> dict[int, float]:
    return {
        worker: slow * sum(cost_K[task] for task, own in owner.items() if own == worker)
        for worker, slow in slowness.items()
    }


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], dict[int, float], dict[int, int]]:
    """Costs, workers, and a state that may name workers that are gone and leave out tasks."""
    cost_K, slowness = draw(COSTS), draw(SLOWNESS)
    owner = st.dictionaries(st.integers(0, len(cost_K) - 1), st.integers(0, 8))
    return cost_K, slowness, draw(owner)


@given(problems())
def test_every_task_has_one_worker_that_is_there(problem: tuple[list[float], dict[int, float], dict[int, int]]) -> None:
    cost_K, slowness, current = problem
    owner = assign(cost_K, slowness, current)
    assert list(owner) == list(range(len(cost_K)))
    assert set(owner.values()) <= set(slowness)


@given(problems(), st.randoms())
def test_the_order_of_what_is_known_does_not_matter(problem, random) -> None:  # type: ignore[no-untyped-def]
    cost_K, slowness, current = problem
    workers, tasks = list(slowness.items()), list(current.items())
    random.shuffle(workers)
    random.shuffle(tasks)
    assert assign(cost_K, dict(workers), dict(tasks)) == assign(cost_K, slowness, current)


@given(problems())
def test_what_was_assigned_stays(problem: tuple[list[float], dict[int, float], dict[int, int]]) -> None:
    cost_K, slowness, current = problem
    owner = assign(cost_K, slowness, current)
    assert assign(cost_K, slowness, owner) == owner


@given(problems())
def test_no_single_move_would_pay(problem: tuple[list[float], dict[int, float], dict[int, int]]) -> None:
    cost_K, slowness, current = problem
    owner = assign(cost_K, slowness, current)
    last = max(finish(cost_K, slowness, owner).values())
    for task, to in product(owner, slowness):
        assert max(finish(cost_K, slowness, owner | {task: to}).values()) >= last * (1 - GAIN) * (1 - 1e-5)


@given(problems())
def test_tasks_move_only_if_it_pays(problem: tuple[list[float], dict[int, float], dict[int, int]]) -> None:
    cost_K, slowness, _ = problem
    workers = sorted(slowness)
    current = {task: workers[task % len(workers)] for task in range(len(cost_K))}
    owner = assign(cost_K, slowness, current)
    if owner != current:
        before, after = (max(finish(cost_K, slowness, one).values()) for one in (current, owner))
        assert after < before * (1 - GAIN)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=7), st.integers(1, 3))
def test_equal_workers_end_within_grahams_bound(cost_K: list[float], workers: int) -> None:
    slowness = dict.fromkeys(range(workers), 1.0)
    ends = max(finish(cost_K, slowness, assign(cost_K, slowness, {})).values())
    tasks = range(len(cost_K))
    best = min(
        max(finish(cost_K, slowness, dict(zip(tasks, choice, strict=True))).values())
        for choice in product(range(workers), repeat=len(cost_K))
    )
    assert ends <= best * (4 / 3 - 1 / (3 * workers)) * (1 + 1e-9)


@given(st.integers(1, 20), st.integers(1, 20))
def test_equal_tasks_are_spread_evenly_and_a_new_worker_gets_its_share(tasks: int, workers: int) -> None:
    costs, slowness = [1.0] * tasks, dict.fromkeys(range(workers), 1.0)
    owner = assign(costs, slowness, {})
    sizes = [list(owner.values()).count(worker) for worker in range(workers)]
    assert max(sizes) - min(sizes) <= 1
    joined = assign(costs, slowness | {workers: 1.0}, owner)
    if -(-tasks // (workers + 1)) < max(sizes):
        assert workers in joined.values()
    stayed = [task for task in range(tasks) if joined[task] == owner[task]]
    assert len(stayed) + list(joined.values()).count(workers) == tasks, "tasks move to the new worker only"


def test_a_lost_workers_tasks_alone_move() -> None:
    owner = assign([1.0] * 9, dict.fromkeys(range(3), 1.0), {})
    after = assign([1.0] * 9, {0: 1.0, 2: 1.0}, owner)
    assert all(after[task] == worker for task, worker in owner.items() if worker != 1)
    with pytest.raises(ValueError, match="no worker"):
        assign([1.0], {}, {0: 0})


def test_a_task_without_a_worker_goes_where_it_ends_soonest() -> None:
    assert assign([1.0, 1.0, 1.0, 0.05], {0: 1.0, 1: 1.0}, {0: 0, 1: 0, 2: 1})[3] == 1, "too short for any move to pay"
    assert assign([1.0, 1.0, 0.1], {0: 1.0, 1: 30.0}, {0: 0, 1: 1})[2] == 0


def test_a_slow_worker_gets_less() -> None:
    owners = list(assign([1.0] * 12, {0: 1.0, 1: 1.0, 2: 4.0}, {}).values())
    assert sorted(owners.count(worker) for worker in range(3)) == [1, 5, 6] and owners.count(2) == 1


def test_speeds_tell_a_slow_task_from_a_slow_worker() -> None:
    speeds = Speeds(3)
    assert speeds.cost_K() == [1.0, 1.0, 1.0] and speeds.expected(0, [0], 10) is None
    for _ in range(40):  # task 1 takes three times as long; worker 1 takes twice as long as worker 0
        speeds.observe(0, {0: 1.0, 1: 3.0}, 10)
        speeds.observe(1, {0: 2.0, 1: 6.0}, 10)
    cost_K = speeds.cost_K()
    assert cost_K[1] / cost_K[0] == pytest.approx(3.0, rel=0.05)
    assert cost_K[2] == pytest.approx((cost_K[0] + cost_K[1]) / 2), "a task not measured yet counts as an average one"
    assert speeds.slowness(1) / speeds.slowness(0) == pytest.approx(2.0, rel=0.05)
    assert speeds.expected(1, [0, 1], 20) == pytest.approx(16.0, rel=0.05)
    speeds.forget(0)
    assert speeds.slowness(0) == 1.0
    speeds.restart()
    assert speeds.expected(1, [0], 1) is None
