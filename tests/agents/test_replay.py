"""Replay: rings that keep the tasks apart and can be written to disk piece by piece."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.replay import Replay
from agents.rewards import ExponentialRewardScale
from tests.agents.conftest import transitions

CPU = torch.device("cpu")


def rows(replay: Replay, start: int, stop: int) -> np.ndarray:
    return replay.segment(start, stop)["rows"]


@settings(max_examples=30, deadline=None)
@given(capacity=st.integers(3, 30), chunks=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_the_ring_holds_the_newest_transitions_in_order(capacity: int, chunks: list[int]) -> None:
    replay, everything = Replay(2, capacity, 3, 1, CPU), []
    for seed, steps in enumerate(chunks):
        chunk = transitions(2, steps, 2, 3, 1, seed)
        replay.add(chunk)
        everything.append(chunk.reward_KTN.reshape(2, -1))
    reward_KR = np.concatenate(everything, axis=1)
    total = reward_KR.shape[1]
    start = max(0, total - capacity)
    assert replay.inserted == total
    np.testing.assert_array_equal(rows(replay, start, total)[..., -2], reward_KR[:, start:])
    with pytest.raises(ValueError, match="not in the replay"):
        replay.segment(start, total + 1)
    if start:
        with pytest.raises(ValueError, match="not in the replay"):
            replay.segment(start - 1, total)


def test_a_row_keeps_every_field_of_its_transition() -> None:
    replay, chunk = Replay(3, 50, 4, 2, CPU), transitions(3, 5, 2, 4, 2, 0)
    replay.add(chunk)
    batch = replay.sample(2000, torch.Generator().manual_seed(0))
    for task in range(3):
        known = {
            chunk.reward_KTN[task, t, n].item(): (
                chunk.obs_KTNO[task, t, n],
                chunk.action_KTNA[task, t, n],
                chunk.next_obs_KTNO[task, t, n],
                chunk.terminated_KTN[task, t, n],
            )
            for t in range(5)
            for n in range(2)
        }
        seen = set()
        for draw in range(2000):
            reward = batch.reward_KB[task, draw].item()
            obs, action, next_obs, terminated = known[reward]
            seen.add(reward)
            np.testing.assert_array_equal(batch.obs_KBO[task, draw], obs)
            np.testing.assert_array_equal(batch.action_KBA[task, draw], action)
            np.testing.assert_array_equal(batch.next_obs_KBO[task, draw], next_obs)
            assert batch.terminated_KB[task, draw].item() == terminated
        assert len(seen) == 10, "every transition of the task can be drawn, and no other"


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5), capacity=st.integers(10, 40))
def test_segments_rebuild_the_ring_to_the_bit(cuts: list[int], capacity: int) -> None:
    replay, other, start = Replay(2, capacity, 3, 1, CPU), Replay(2, capacity, 3, 1, CPU), 0
    for seed, steps in enumerate(cuts):
        replay.add(transitions(2, steps, 1, 3, 1, seed))
        other.load_segment(start, replay.inserted, replay.segment(start, replay.inserted))
        start = replay.inserted
    other.load_state_dict(replay.state_dict())
    low = max(0, replay.inserted - capacity)
    np.testing.assert_array_equal(rows(replay, low, start), rows(other, low, start))
    first, second = (r.sample(16, torch.Generator().manual_seed(3)) for r in (replay, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_tasks_that_are_ahead_travel_in_the_state() -> None:
    """Asynchronous workers deliver tasks at their own pace."""
    replay, other = Replay(2, 8, 3, 1, CPU), Replay(2, 8, 3, 1, CPU)
    chunk = transitions(2, 6, 1, 3, 1, 0)
    replay.add(chunk)
    replay.add(
        replace(
            transitions(1, 5, 1, 3, 1, 1),
            tasks=(1,),
        )
    )
    assert replay.inserted == 6 and replay.inserted_K.tolist() == [6, 11]
    other.load_segment(0, 6, replay.segment(0, 6))
    other.load_state_dict(replay.state_dict())
    assert other.inserted_K.tolist() == [6, 11]
    first, second = (r.sample(64, torch.Generator().manual_seed(0)) for r in (replay, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_segment_of_another_run_is_refused() -> None:
    replay = Replay(2, 8, 3, 1, CPU)
    with pytest.raises(ValueError, match="shape"):
        replay.load_segment(0, 4, {"rows": np.zeros((3, 4, replay.width), np.float32)})


@pytest.mark.parametrize("splits", [[30], [7, 1, 22]])
def test_reward_scale_is_mtrls_recurrence_however_the_chunks_are_cut(splits: list[int]) -> None:
    chunk = transitions(2, 30, 2, 3, 1, 5)
    scale, start = ExponentialRewardScale(2, 0.05, CPU), 0
    for size in splits:
        part = slice(start, start + size)
        scale.observe(replace(chunk, reward_KTN=chunk.reward_KTN[:, part]))
        start += size
    for task in range(2):
        mean, variance = 0.0, 1.0
        for reward in chunk.reward_KTN[task].reshape(-1).tolist():
            mean = (1 - 0.05) * mean + 0.05 * reward
            variance = (1 - 0.05) * variance + 0.05 * (reward - mean) ** 2
        normalized = scale.normalize(torch.ones(2, 1))[task, 0].item()
        assert normalized == pytest.approx(1 / (variance**0.5 + 1e-8), rel=1e-5)
