"""Batches are a pure function of the seed: from any update on, for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments_vision.errors import VisionError
from experiments_vision.training.batches import Plan
from experiments_vision.training.world import World


def plan(examples: int = 50, batch: int = 12, accumulate: int = 1, world: World | None = None, seed: int = 3) -> Plan:
    return Plan(examples, batch, accumulate, epochs=3, seed=seed, world=world or World())


def numbers(plan: Plan, start: int = 0) -> list[tuple[int, list[int]]]:
    return [(epoch, part.tolist()) for epoch, part in plan.micro_batches(start)]


def test_an_epoch_shows_no_example_twice_and_all_batches_are_full() -> None:
    batches = numbers(plan())
    assert [epoch for epoch, _ in batches] == [0] * 4 + [1] * 4 + [2] * 4
    for epoch in range(3):
        seen = [number for at, part in batches if at == epoch for number in part]
        assert len(seen) == len(set(seen)) == 48
        assert set(seen) <= set(range(50))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = [tuple(plan(seed=seed).order(epoch)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6


@given(start=st.integers(0, 12), accumulate=st.sampled_from([1, 2, 3]))
def test_a_resumed_run_goes_on_with_the_same_batches(start: int, accumulate: int) -> None:
    whole = numbers(plan(accumulate=accumulate))
    assert numbers(plan(accumulate=accumulate), start) == whole[start * accumulate :]


@given(size=st.sampled_from([1, 2, 3, 6]), accumulate=st.sampled_from([1, 2]))
def test_the_processes_share_one_batch_between_them(size: int, accumulate: int) -> None:
    alone = numbers(plan())
    shares = [numbers(plan(accumulate=accumulate, world=World(rank, size))) for rank in range(size)]
    for update, (_, batch) in enumerate(alone):
        mine = [part for share in shares for _, part in share[update * accumulate : (update + 1) * accumulate]]
        assert [number for part in mine for number in part] == batch


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(VisionError, match="batch_size=51: the training split has only 50"):
        plan(batch=51)
    with pytest.raises(VisionError, match="batch_size=12 must be a multiple of accumulate=5"):
        plan(accumulate=5)
    with pytest.raises(VisionError, match="5 processes"):
        plan(world=World(0, 5))


def test_an_order_is_a_permutation() -> None:
    assert np.array_equal(np.sort(plan().order(7)), np.arange(50))
