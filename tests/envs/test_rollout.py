from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import EnvironmentFailure, NotDeterministicError
from envs.rollout import Chunk, Policy, Rollout, collect_together, merge_chunks
from envs.streams import Position
from tests.envs.toys import TERMINATES_AFTER, classic_suite, metaworld_suite, toy_suite

FIELDS = ("obs_KTNO", "action_KTNA", "reward_KTN", "next_obs_KTNO", "terminated_KTN", "ended_KTN")


def policy(tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
    """Depends on the observation and task only, so that chunks cut elsewhere see the same actions."""
    shape = obs_KNO.shape[2], noise_KNA.shape[2]
    weights_KOA = np.stack([np.sin(np.arange(shape[0] * shape[1]) + task).reshape(shape) for task in tasks])
    return np.asarray(np.tanh(obs_KNO @ weights_KOA.astype(np.float32)))


def noisy(tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(policy(tasks, obs_KNO, noise_KNA) + noise_KNA))


def assert_same(one: Chunk, other: Chunk) -> None:
    assert (one.index, one.tasks, one.episodes) == (other.index, other.tasks, other.episodes)
    for name in FIELDS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def joined(chunks: Sequence[Chunk], name: str) -> np.ndarray:
    return np.concatenate([getattr(chunk, name) for chunk in chunks], axis=1)


def test_a_chunk_has_the_promised_shapes_and_types() -> None:
    suite = toy_suite("wide", "terminates", "endless")
    chunk = Rollout(suite, [2, 0], copies=3, seed=1).collect(noisy, index=4, steps=11)
    assert (chunk.index, chunk.tasks) == (4, (2, 0))
    assert chunk.obs_KTNO.shape == chunk.next_obs_KTNO.shape == (2, 11, 3, 6)
    assert chunk.action_KTNA.shape == (2, 11, 3, 3)
    assert chunk.reward_KTN.shape == chunk.terminated_KTN.shape == chunk.ended_KTN.shape == (2, 11, 3)
    assert {getattr(chunk, name).dtype for name in FIELDS[:4]} == {np.dtype(np.float32)}
    assert chunk.terminated_KTN.dtype == chunk.ended_KTN.dtype == np.bool_


def test_an_episode_ends_with_the_terminal_observation_and_the_next_starts_from_a_reset() -> None:
    chunk = Rollout(toy_suite("terminates"), [0], copies=2, seed=0).collect(policy, 0, 20)
    steps_TN, next_steps_TN = chunk.obs_KTNO[0, :, :, 0], chunk.next_obs_KTNO[0, :, :, 0]
    np.testing.assert_array_equal(next_steps_TN, steps_TN + 1)
    np.testing.assert_array_equal(steps_TN[:, 0], np.arange(20) % TERMINATES_AFTER)
    ended_T = np.arange(1, 21) % TERMINATES_AFTER == 0
    np.testing.assert_array_equal(chunk.ended_KTN[0, :, 1], ended_T)
    inside_T = ~ended_T[:-1]
    np.testing.assert_array_equal(
        chunk.obs_KTNO[0, 1:][inside_T].tobytes(), chunk.next_obs_KTNO[0, :-1][inside_T].tobytes()
    )


def test_truncation_ends_an_episode_without_terminating_it() -> None:
    chunk = Rollout(toy_suite("endless", "terminates", horizon=9), [0, 1], 1, 0).collect(None, 0, 30)
    assert not chunk.terminated_KTN[0].any()
    np.testing.assert_array_equal(np.flatnonzero(chunk.ended_KTN[0]), [8, 17, 26])
    np.testing.assert_array_equal(chunk.terminated_KTN[1], chunk.ended_KTN[1])
    assert {episode.length for episode in chunk.episodes if episode.task == 1} == {TERMINATES_AFTER}


def test_the_horizon_truncates_metaworld() -> None:
    chunk = Rollout(metaworld_suite("reach-v3", horizon=6), [0], 1, 0).collect(None, 0, 13)
    np.testing.assert_array_equal(np.flatnonzero(chunk.ended_KTN), [5, 11])
    assert not chunk.terminated_KTN.any()


def test_episodes_are_numbered_counted_over_chunks_and_summed_over_their_whole_length() -> None:
    rollout = Rollout(toy_suite("succeeds", horizon=8), [0], copies=2, seed=5)
    chunks = [rollout.collect(policy, index, 5) for index in range(4)]
    episodes = [episode for chunk in chunks for episode in chunk.episodes]
    assert [(e.copy, e.number, e.end, e.length) for e in episodes] == [
        (0, 0, 3, 8), (1, 0, 3, 8), (0, 1, 1, 8), (1, 1, 1, 8),
    ]  # fmt: skip
    assert all(e.success_any and not e.success_last for e in episodes)
    rewards_TN = joined(chunks, "reward_KTN")[0]
    assert episodes[0].return_ == pytest.approx(rewards_TN[:8, 0].sum(), rel=1e-5)
    assert episodes[3].return_ == pytest.approx(rewards_TN[8:16, 1].sum(), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_where_chunks_are_cut_does_not_matter_to_the_environments(cuts: list[int]) -> None:
    suite = toy_suite("terminates", "wide", "endless", horizon=13)
    whole = Rollout(suite, [0, 1, 2], 2, seed=3).collect(policy, 0, sum(cuts))
    rollout = Rollout(suite, [0, 1, 2], 2, seed=3)
    parts = [rollout.collect(policy, index, steps) for index, steps in enumerate(cuts)]
    for name in FIELDS:
        assert joined(parts, name).tobytes() == getattr(whole, name).tobytes()
    returns = [sorted((e.task, e.copy, e.number, e.return_) for chunk in run for e in chunk.episodes)
               for run in ([whole], parts)]  # fmt: skip
    assert returns[0] == returns[1]


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 40), seed=st.integers(0, 2**32), fresh=st.booleans())
def test_a_rollout_restored_anywhere_goes_on_to_the_bit(before: int, seed: int, fresh: bool) -> None:
    suite = toy_suite("terminates", "wide", "succeeds", horizon=13)
    original = Rollout(suite, [0, 1, 2], 2, seed)
    original.collect(noisy, 0, before)
    positions = pickle.loads(pickle.dumps(original.positions()))
    restored = Rollout(suite, [0, 1, 2], 2, seed)
    if not fresh:
        restored.collect(None, 7, 17)
    restored.restore(positions)
    for index in (1, 2):
        assert_same(original.collect(noisy, index, 9), restored.collect(noisy, index, 9))


@pytest.fixture(scope="module")
def metaworld_pair() -> tuple[Rollout, Rollout]:
    suite = metaworld_suite("pick-place-v3", "drawer-open-v3", horizon=24)
    return Rollout(suite, [0, 1], 1, 11), Rollout(suite, [0, 1], 1, 11)


@settings(max_examples=6, deadline=None)
@given(before=st.integers(0, 50))
def test_metaworld_restored_anywhere_goes_on_to_the_bit(metaworld_pair: tuple[Rollout, Rollout], before: int) -> None:
    original, restored = metaworld_pair
    original.collect(noisy, 0, before)
    restored.restore(original.positions())
    assert_same(original.collect(noisy, 1, 28), restored.collect(noisy, 1, 28))


def test_positions_of_a_new_rollout_are_the_first_resets() -> None:
    suite = classic_suite()
    positions = Rollout(suite, [0, 1], 2, seed=0).positions()
    assert sorted(positions) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(at.episode == 0 and at.actions_TA.shape == (0, 1) for at in positions.values())
    assert len({at.last_obs_O.tobytes() for at in positions.values()}) == 4
    restored = Rollout(suite, [0, 1], 2, seed=0)
    restored.restore(positions)
    assert_same(restored.collect(noisy, 0, 9), Rollout(suite, [0, 1], 2, seed=0).collect(noisy, 0, 9))


def test_positions_are_not_overwritten_by_what_follows() -> None:
    rollout = Rollout(classic_suite(), [0], 1, seed=0)
    rollout.collect(noisy, 0, 10)
    position = rollout.positions()[0, 0]
    saved = pickle.dumps(position)
    rollout.collect(noisy, 1, 60)
    assert pickle.dumps(position) == saved


@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[2, 0], [1]], [[0, 1, 2]], [[2, 1, 0]]])
def test_how_tasks_are_shared_out_does_not_matter(groups: list[list[int]]) -> None:
    suite = toy_suite("terminates", "wide", "succeeds", horizon=13)
    whole = Rollout(suite, [0, 1, 2], 2, seed=0)
    parts = [Rollout(suite, tasks, 2, seed=0) for tasks in groups]
    for index in range(3):
        chunk = merge_chunks([part.collect(noisy, index, 10) for part in parts])
        assert_same(chunk, whole.collect(noisy, index, 10))


def test_restore_takes_a_share_of_all_positions_and_names_a_missing_one() -> None:
    suite = classic_suite()
    whole = Rollout(suite, [0, 1], 1, seed=2)
    whole.collect(noisy, 0, 33)
    part = Rollout(suite, [1], 1, seed=2)
    part.restore(whole.positions())
    np.testing.assert_array_equal(part.collect(noisy, 1, 8).obs_KTNO[0], whole.collect(noisy, 1, 8).obs_KTNO[1])
    with pytest.raises(KeyError, match=r"no position for \(task, copy\) \(0, 0\)"):
        Rollout(suite, [0], 1, seed=2).restore(part.positions())


def test_merging_refuses_chunks_of_other_rounds_and_shared_tasks() -> None:
    suite = classic_suite()
    first, second = (Rollout(suite, [task], 1, 0).collect(None, 0, 3) for task in (0, 1))
    later = dataclasses.replace(second, index=1)
    for wrong in ([first, later], [first, first], []):
        with pytest.raises(ValueError, match="only chunks of one index"):
            merge_chunks(wrong)


def test_random_actions_fill_their_range_and_differ_between_tasks_copies_and_chunks() -> None:
    rollout = Rollout(toy_suite("wide", "endless"), [0, 1], copies=2, seed=0)
    chunks = [rollout.collect(None, index, 200) for index in range(2)]
    actions = joined(chunks, "action_KTNA")
    assert -1 <= actions.min() < -0.98 and 0.98 < actions.max() <= 1
    assert len({c.action_KTNA[k, :, n, 0].tobytes() for c in chunks for k in (0, 1) for n in (0, 1)}) == 8


def test_noise_is_standard_normal_and_named_by_task_copy_and_chunk() -> None:
    seen: list[np.ndarray] = []

    def recording(tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        seen.append(noise_KNA[0].copy())
        return np.zeros_like(noise_KNA)

    rollout = Rollout(toy_suite("endless"), [0], copies=2, seed=0)
    for index in (0, 1, 0):
        rollout.collect(recording, index, 500)
    first, second, again = (np.stack(seen[i : i + 500]) for i in (0, 500, 1000))
    assert first.dtype == np.float32 and abs(first.mean()) < 0.1 and abs(first.std() - 1) < 0.1
    np.testing.assert_array_equal(first, again)
    assert not (first == second).any() and not (first[:, 0] == first[:, 1]).any()


def test_padded_action_coordinates_are_zero_in_the_chunk_and_reach_no_task() -> None:
    suite = toy_suite("wide", "endless")
    np.testing.assert_array_equal(suite.action_mask_KA, [[1, 1, 1], [1, 0, 0]])
    for asked in (None, noisy):
        chunk = Rollout(suite, [0, 1], 1, 0).collect(asked, 0, 30)
        assert (chunk.action_KTNA[1, :, :, 1:] == 0).all() and (chunk.action_KTNA[0] != 0).all()
        assert (chunk.obs_KTNO[1, :, :, 4:] == 0).all()


def test_an_exception_in_a_simulator_names_where_it_happened_and_crosses_processes() -> None:
    rollout = Rollout(toy_suite("terminates", "breaks"), [0, 1], copies=1, seed=0)
    with pytest.raises(EnvironmentFailure) as caught:
        rollout.collect(None, 0, 30)
    failure = pickle.loads(pickle.dumps(caught.value))
    assert (failure.task, failure.copy, failure.episode, failure.step) == ("breaks", 0, 1, 4)
    assert failure.cause == "ZeroDivisionError: the simulator lost a joint"
    assert str(failure) == str(caught.value)
    assert "'breaks'" in str(failure) and "step 4" in str(failure)


def test_a_reward_that_is_not_finite_is_a_failure() -> None:
    with pytest.raises(EnvironmentFailure, match=r"'nan' failed \(copy 0, episode 0, step 3\).*not finite"):
        Rollout(toy_suite("nan"), [0], 1, 0).collect(None, 0, 10)


def test_a_task_that_keeps_state_over_a_reset_is_found_out() -> None:
    suite = toy_suite("remembers", horizon=10)
    rollout = Rollout(suite, [0], 1, 0)
    rollout.collect(None, 0, 15)
    with pytest.raises(NotDeterministicError, match="'remembers' is not deterministic") as caught:
        Rollout(suite, [0], 1, 0).restore(rollout.positions())
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.task, error.episode, error.steps) == ("remembers", 1, 5)


def test_one_bit_of_difference_in_the_saved_observation_is_found() -> None:
    rollout = Rollout(classic_suite(), [0], 1, 0)
    rollout.collect(None, 0, 15)
    position = rollout.positions()[0, 0]
    wrong = Position(
        position.episode,
        position.actions_TA,
        np.nextafter(position.last_obs_O, np.float32(2)),
        position.return_,
        position.success_any,
        position.success_last,
    )
    with pytest.raises(NotDeterministicError):
        rollout.restore({(0, 0): wrong})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda right: right * np.array([[[0]], [[np.nan]]]), "outside .* for task 'endless' \\(largest: nan\\)"),
        (lambda right: right + np.array([[[1.5]], [[0]]]), "outside .* for task 'terminates' \\(largest: 1.5\\)"),
        (lambda right: right[0], "shape \\(2, 1\\) for tasks .*'endless'.*, not \\(2, 2, 1\\)"),
    ],
)
def test_a_policy_that_breaks_its_contract_is_refused(answer: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    rollout = Rollout(toy_suite("terminates", "endless"), [0, 1], 2, 0)
    with pytest.raises(ValueError, match=message):
        rollout.collect(lambda tasks, obs, noise: answer(np.zeros_like(noise)), 0, 2)


def test_seeds_matter_and_zero_works() -> None:
    suite = classic_suite()
    zero, again, one = (Rollout(suite, [0, 1], 1, seed).collect(noisy, 0, 60) for seed in (0, 0, 1))
    assert_same(zero, again)
    assert (zero.obs_KTNO[:, 0] != one.obs_KTNO[:, 0]).any(axis=(1, 2)).all()


def test_closing_frees_and_a_later_collect_starts_again() -> None:
    rollout = Rollout(classic_suite(), [0, 1], 1, 0)
    first = rollout.collect(noisy, 0, 20)
    rollout.close()
    assert_same(first, rollout.collect(noisy, 0, 20))


@pytest.mark.parametrize(("tasks", "copies"), [([0, 0], 1), ([5], 1), ([-1], 1), ([0], 0)])
def test_a_rollout_refuses_tasks_it_cannot_have(tasks: list[int], copies: int) -> None:
    with pytest.raises(ValueError, match=r"task|copies"):
        Rollout(classic_suite(), tasks, copies, 0)


@pytest.mark.parametrize("acting", [noisy, None])
def test_rollouts_that_collect_together_give_the_bits_of_each_alone(acting: Policy | None) -> None:
    suite, groups = toy_suite("wide", "terminates", "endless"), [(2,), (0, 1)]
    together, alone = ([Rollout(suite, tasks, 2, seed=3) for tasks in groups] for _ in range(2))
    for index in range(3):
        chunk, seconds = collect_together(together, acting, index, 11)
        assert chunk.tasks == (2, 0, 1)
        assert_same(merge_chunks([chunk]), merge_chunks([one.collect(acting, index, 11) for one in alone]))
        assert len(seconds) == 3 and min(seconds) > 0
    for one, other in zip(together, alone, strict=True):
        assert one.positions().keys() == other.positions().keys()
        for key, position in one.positions().items():
            assert position.episode == other.positions()[key].episode
            assert position.last_obs_O.tobytes() == other.positions()[key].last_obs_O.tobytes()


def test_all_tasks_act_before_any_steps() -> None:
    """So that the policy's weights are fetched once a vector step."""
    asked: list[tuple[int, ...]] = []

    def recording(tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        asked.append(tuple(tasks))
        return noisy(tasks, obs_KNO, noise_KNA)

    Rollout(toy_suite("wide", "terminates", "endless"), [2, 0, 1], 2, seed=3).collect(recording, 0, 3)
    assert asked == [(2, 0, 1)] * 3
