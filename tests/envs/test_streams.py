from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from envs.streams import ACTIONS, EVALUATION, GOALS, seed_sequence, stream

names = st.tuples(st.integers(0, 2**40), st.integers(0, 6), st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple))


@given(names)
def test_equal_names_give_equal_streams(name: tuple[int, int, tuple[int, ...]]) -> None:
    seed, purpose, key = name
    first, second = (stream(seed, purpose, *key).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@given(names, names)
def test_different_names_give_different_streams(
    one: tuple[int, int, tuple[int, ...]], other: tuple[int, int, tuple[int, ...]]
) -> None:
    same = (stream(one[0], one[1], *one[2]).random(4) == stream(other[0], other[1], *other[2]).random(4)).all()
    assert same == (one == other)


def test_a_trailing_zero_in_the_key_is_part_of_the_name() -> None:
    states = {seed_sequence(0, GOALS, *key).generate_state(2).tobytes() for key in [(), (0,), (0, 0), (0, 0, 0)]}
    assert len(states) == 4


def test_seed_zero_is_a_seed_like_any_other() -> None:
    assert stream(0, GOALS, 1).random() == stream(0, GOALS, 1).random() != stream(1, GOALS, 1).random()


def test_no_two_tasks_or_copies_share_a_sequence_of_goals() -> None:
    sequences = {
        tuple(int(stream(0, GOALS, task, copy, episode).integers(50)) for episode in range(12))
        for task in range(10)
        for copy in range(2)
    }
    assert len(sequences) == 20


def test_purposes_do_not_meet() -> None:
    assert len({stream(3, purpose, 1, 1, 1).random() for purpose in (GOALS, ACTIONS, EVALUATION)}) == 3
