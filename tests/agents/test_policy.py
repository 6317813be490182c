"""The policy on a worker is the learner's actor, and its bits depend on nothing but its inputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.config import AgentConfig
from agents.networks import bound_log_std, initial_mlp, squashed_gaussian
from agents.policy import Policy, actor_sizes
from agents.problem import Problem
from tests.agents.conftest import Build, transitions

FIELDS = ("obs_KTNO", "action_KTNA", "reward_KTN", "next_obs_KTNO", "terminated_KTN")


@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("bound", ["clamp", "tanh"])
@pytest.mark.parametrize("normalization", ["none", "warmup"])
def test_the_policy_is_the_learners_actor(build: Build, one_hot: bool, bound: str, normalization: str) -> None:
    learner = build(
        one_hot=one_hot, log_std_bound=bound, batch_size=5, observation_normalization=normalization, warmup_steps=20
    )
    learner.update(30)
    policy = Policy(learner.problem, learner.config)
    policy.load(learner.policy_weights())
    rng = np.random.default_rng(0)
    obs_KBO = rng.standard_normal((3, 5, 4), np.float32)
    noise_KBA = rng.standard_normal((3, 5, 2), np.float32)
    coded_KBI = learner._coded(torch.from_numpy(obs_KBO))
    expected_KBA, _ = learner._act(coded_KBI, torch.from_numpy(noise_KBA))
    silent_KBA, _ = learner._act(coded_KBI, torch.zeros(3, 5, 2))
    np.testing.assert_allclose(policy(range(3), obs_KBO, noise_KBA), expected_KBA, atol=1e-6)
    for task in range(3):
        np.testing.assert_allclose(policy.mode(task, obs_KBO[task]), silent_KBA[task], atol=1e-6)
    assert not policy([2], obs_KBO[2:], noise_KBA[2:])[..., 1].any(), "a padded coordinate stays 0"


def test_observation_statistics_are_those_of_the_warm_up(build: Build) -> None:
    """Measured when its last chunk comes, then frozen; a constant coordinate stays finite."""
    learner = build(observation_normalization="warmup", warmup_steps=20, fill=False)
    warmup, later = transitions(3, 20, 2, 4, 2, seed=1), transitions(3, 20, 2, 4, 2, seed=2)
    warmup.obs_KTNO[...] = warmup.obs_KTNO * [0.1, 1.0, 30.0, 0.0] + [5.0, -1.0, 0.0, 2.0]
    halves = [
        dataclasses.replace(warmup, **{key: getattr(warmup, key)[:, part] for key in FIELDS})
        for part in (slice(0, 11), slice(11, 20))
    ]
    learner.add(halves[0])
    assert learner.policy_weights()[-8:].tolist() == [0.0] * 4 + [1.0] * 4
    learner.add(halves[1])
    assert learner.policy_weights()[-8:].tolist() != [0.0] * 4 + [1.0] * 4, "before the first update"
    learner.add(later)
    learner.update(1)
    learner.add(later)
    learner.update(3)
    normalized = learner._observations(torch.from_numpy(warmup.obs_KTNO)).flatten(0, 2)
    torch.testing.assert_close(normalized.mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(normalized.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-3, rtol=0)
    far = learner._observations(torch.full((1, 4), 1e9))
    assert far.abs().max() <= 10


@pytest.mark.parametrize("copies", [1, 4])
def test_bits_do_not_depend_on_threads_or_on_the_tasks_asked_beside_or_before(copies: int) -> None:
    """A block of tasks and a part of another."""
    tasks, config = 12, AgentConfig(hidden_sizes=[400, 400, 400])
    problem = Problem([f"task {k}" for k in range(tasks)], 39, 4, np.ones((tasks, 4), np.bool_))
    policy = Policy(problem, config)
    size = initial_mlp(1, actor_sizes(problem, config), "he_uniform", torch.Generator().manual_seed(0)).num_parameters
    rng = np.random.default_rng(0)
    policy.load(0.1 * rng.standard_normal(size, np.float32))
    obs_KNO = rng.standard_normal((tasks, copies, 39), np.float32)
    noise_KNA = rng.standard_normal((tasks, copies, 4), np.float32)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            for groups in (
                [range(tasks)],
                [[task] for task in range(tasks)],
                [[11, 3, 7], [0, 1, 2, 10, 9, 8], [6, 5, 4]],
            ):
                action_KNA = np.full_like(noise_KNA, np.nan)
                policy(range(tasks), 1e3 * obs_KNO, noise_KNA)
                for group in map(list, groups):
                    action_KNA[group] = policy(group, obs_KNO[group], noise_KNA[group])
                modes_KNA = np.stack([policy.mode(task, obs_KNO[task]) for task in range(tasks)])
                found.append((action_KNA.tobytes(), modes_KNA.tobytes()))
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 1 and np.isfinite(action_KNA).all()


def test_weights_of_another_network_are_refused(build: Build) -> None:
    learner = build(fill=False)
    policy = Policy(learner.problem, learner.config)
    with pytest.raises(RuntimeError, match="no weights"):
        policy.mode(0, np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="parameters"):
        policy.load(np.zeros(7, np.float32))


@settings(max_examples=50, deadline=None)
@given(mean=st.floats(-3, 3), log_std=st.floats(-3, 1), noise=st.floats(-2, 2))
def test_the_density_is_that_of_a_tanh_transformed_normal(mean: float, log_std: float, noise: float) -> None:
    def tensor(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1), value, dtype=torch.float64)

    action, log_prob = squashed_gaussian(tensor(mean), tensor(log_std), tensor(noise), tensor(1.0))
    base = torch.distributions.Normal(tensor(mean), tensor(log_std).exp())
    squashed = torch.distributions.TransformedDistribution(base, [torch.distributions.TanhTransform()])
    before = tensor(mean) + tensor(log_std).exp() * noise
    expected = base.log_prob(before) - squashed.transforms[0].log_abs_det_jacobian(before, action)
    torch.testing.assert_close(log_prob, expected[..., 0])


@pytest.mark.parametrize("bound", ["clamp", "tanh"])
def test_log_std_stays_in_its_range(bound: str) -> None:
    values = bound_log_std(torch.tensor([-1e6, -3.0, 0.0, 1e6]), -20.0, 2.0, bound)
    assert values.min() >= -20 and values.max() <= 2
    assert (values.diff() >= 0).all()


def ask(policy: Policy, obs_NO: np.ndarray, noise_NA: np.ndarray) -> np.ndarray:
    return policy([0], obs_NO[None], noise_NA[None])


def test_an_answer_stays_what_it_was_when_the_policy_is_asked_again(build: Build) -> None:
    learner = build()
    policy = Policy(learner.problem, learner.config)
    policy.load(learner.policy_weights())
    rng = np.random.default_rng(1)
    asked = [(rng.standard_normal((copies, 4), np.float32), np.ones((copies, 2), np.float32)) for copies in (3, 1, 3)]
    given = [(ask(policy, *one), policy.mode(0, one[0])) for one in asked]
    kept = [(action.copy(), mode.copy()) for action, mode in given]
    for one, answers in zip(asked, kept, strict=True):
        assert (
            ask(policy, *one).tobytes() == answers[0].tobytes()
            and policy.mode(0, one[0]).tobytes() == answers[1].tobytes()
        )
    assert [answer.tobytes() for pair in given for answer in pair] == [
        answer.tobytes() for pair in kept for answer in pair
    ]
