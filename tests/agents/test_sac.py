"""The update: against a plain SAC written the usual way, and the promises of a learner."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from agents.config import AgentConfig, AgentError
from agents.replay import Batch
from agents.sac import SACLearner
from benchmarks.variants import all_labels
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.registry import find_method, make_method
from mtrl_surgery.tensors import NonFiniteError
from tests.agents.conftest import Build, transitions


def module_of(flat: dict[str, torch.Tensor], member: int) -> nn.Sequential:
    """One ensemble member as the usual stack of nn.Linear, in float64."""
    layers: list[nn.Module] = []
    for layer in range(len(flat) // 2):
        weight_IO = flat[f"weight{layer}"][member]
        linear = nn.Linear(*weight_IO.shape, dtype=torch.float64)
        linear.weight.data = weight_IO.T.double().clone()
        linear.bias.data = flat[f"bias{layer}"][member, 0].double().clone()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainSAC:
    """A textbook SAC of separate modules and one flat batch: mean over both critics and all samples."""

    def __init__(self, learner: SACLearner) -> None:
        self.config, self.tasks = learner.config, learner.problem.num_tasks
        self.actor = module_of(learner.actor.parameters.views(), 0)
        self.critics = nn.ModuleList(
            module_of(learner.critic.parameters.views(), e) for e in range(self.config.critics)
        )
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros(self.tasks, dtype=torch.float64, requires_grad=True)
        eps, lr = self.config.adam_eps, self.config.actor_learning_rate
        self.optimizers = [
            torch.optim.Adam(p, lr=lr, eps=eps)
            for p in (self.actor.parameters(), self.critics.parameters(), [self.log_alpha])
        ]

    def act(self, obs: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self.actor(obs).chunk(2, -1)
        std = log_std.clamp(-20, 2).exp()
        before = mean + std * noise
        squashed = TransformedDistribution(Normal(mean, std), [TanhTransform(cache_size=1)])
        log_prob = Normal(mean, std).log_prob(before) - squashed.transforms[0].log_abs_det_jacobian(
            before, before.tanh()
        )
        return before.tanh(), log_prob.sum(-1)

    def step(self, batch: Batch, next_noise: torch.Tensor, noise: torch.Tensor) -> None:
        code = torch.eye(self.tasks, dtype=torch.float64).repeat_interleave(batch.obs_KBO.shape[1], 0)
        obs, next_obs = (torch.cat([x.double().flatten(0, 1), code], -1) for x in (batch.obs_KBO, batch.next_obs_KBO))
        action, reward, terminated = (
            x.double().flatten(0, 1) for x in (batch.action_KBA, batch.reward_KB, batch.terminated_KB)
        )
        alpha = self.log_alpha.detach().exp()[code.argmax(-1)]
        with torch.no_grad():
            next_action, next_log_prob = self.act(next_obs, next_noise.double().flatten(0, 1))
            next_input = torch.cat([next_obs, next_action], -1)
            next_q = torch.stack([q(next_input)[:, 0] for q in self.targets]).amin(0)
            backup = reward + self.config.discount * (1 - terminated) * (next_q - alpha * next_log_prob)
        errors = torch.stack([q(torch.cat([obs, action], -1))[:, 0] - backup for q in self.critics])
        loss = errors.square().mean()
        self._apply(1, loss, self.critics.parameters())
        new_action, log_prob = self.act(obs, noise.double().flatten(0, 1))
        q = torch.stack([q(torch.cat([obs, new_action], -1))[:, 0] for q in self.critics]).amin(0)
        self._apply(0, (alpha * log_prob - q).mean(), self.actor.parameters())
        errors = (log_prob.detach() - 2.0).reshape(self.tasks, -1).mean(-1)
        self.optimizers[2].zero_grad()
        (-self.log_alpha * errors).sum().backward()
        self.optimizers[2].step()
        with torch.no_grad():
            for target, online in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.lerp_(online, self.config.tau)

    def _apply(self, index: int, loss: torch.Tensor, parameters) -> None:
        parameters = list(parameters)
        self.optimizers[index].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        self.optimizers[index].step()


def test_updates_equal_a_textbook_sac(build: Build) -> None:
    """`ls` with mean reduction is plain SAC on the joined batch; 25 updates agree with float64 modules."""
    learner = build(replay_capacity=64, diagnostics=DiagnosticsConfig(every=7))
    learner._mask_K1A.fill_(1.0)
    learner._target_entropy_K.fill_(-2.0)
    plain = PlainSAC(learner)
    for _ in range(25):
        sampling, noise = torch.Generator(), torch.Generator()
        sampling.set_state(learner._sampling.get_state())
        noise.set_state(learner._noise.get_state())
        batch = learner.replay.sample(8, sampling)
        plain.step(batch, *torch.randn((2, 3, 8, 2), generator=noise))
        learner.update(1)
    for member, module in enumerate(plain.critics):
        views = learner.critic.parameters.views()
        for layer in range(3):
            torch.testing.assert_close(
                views[f"weight{layer}"][member].double(), module[2 * layer].weight.T, atol=2e-5, rtol=1e-3
            )
    actor = learner.actor.parameters.views()
    for layer in range(3):
        torch.testing.assert_close(
            actor[f"weight{layer}"][0].double(), plain.actor[2 * layer].weight.T, atol=2e-5, rtol=1e-3
        )
    torch.testing.assert_close(learner.log_temperature.double(), plain.log_alpha.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", all_labels())
def test_a_restored_learner_continues_to_the_bit(build: Build, method: str) -> None:
    options = {
        "diagnostics": DiagnosticsConfig(every=5),
        "observation_normalization": "warmup",
        "warmup_steps": 20,
        "critic_layer_norm": True,
        "decay_updates": 25,
    }
    # The actor's losses may be negative, which some loss weightings refuse.
    learner = build("samgs", method, **options)
    learner.update(13)
    other = build("samgs", method, seed=9, **options)
    other.load_state_dict(learner.state_dict())
    other.replay.load_segment(0, learner.replay.inserted, learner.replay.segment(0, learner.replay.inserted))
    learner.update(17)
    other.update(17)
    assert learner.metrics() == other.metrics()
    assert torch.equal(learner.critic.parameters.vector_P, other.critic.parameters.vector_P)
    assert torch.equal(learner.target.vector_P, other.target.vector_P)
    assert (learner.policy_weights() == other.policy_weights()).all()


def test_how_updates_are_grouped_into_calls_changes_nothing(build: Build) -> None:
    one, many = build("samgs"), build("samgs")
    one.update(12)
    for count in (1, 5, 0, 6):
        many.update(count)
    assert one.metrics() == many.metrics()
    assert torch.equal(one.critic.parameters.vector_P, many.critic.parameters.vector_P)


def test_actor_and_critic_can_have_different_methods_but_not_share_one(build: Build) -> None:
    learner = build("ls", critic_method="famo")
    learner.update(5)
    assert learner.critic.method.name == "famo" and learner.actor.method.name == "ls"
    method = make_method(find_method("ls").config(), 3, 0)
    with pytest.raises(ValueError, match="instance each"):
        SACLearner(learner.problem, learner.config, method, method, 0, "cpu")


def test_a_nan_names_network_task_and_update(build: Build) -> None:
    learner = build(fill=False)
    chunk = transitions(3, 20, 2, 4, 2, seed=1)
    learner.add(chunk)
    learner.update(4)
    learner.metrics()
    chunk.reward_KTN[1] = float("nan")
    for _ in range(2):
        learner.add(chunk)
    learner.update(3)
    with pytest.raises(NonFiniteError, match=r"critic.*task 'b'.*update 4"):
        learner.metrics()


def test_metric_rows(build: Build) -> None:
    learner = build("samgs", diagnostics=DiagnosticsConfig(every=2))
    assert learner.metrics() == [], "nothing to say before the first update"
    learner.update(4)
    rows = learner.metrics()
    assert [row["task"] for row in rows] == [None, "a", "b", "c"]
    for network in ("critic", "actor"):
        assert 0 <= rows[0][f"{network}/equalised"] <= 1
        assert 0 <= rows[0][f"{network}/conflict_rate"] <= 1
        assert -1 <= rows[0][f"{network}/mean_cosine"] <= 1
        assert all(row[f"{network}/gradient_norm"] > 0 and f"{network}/weights" in row for row in rows[1:])
    assert all(row["temperature"] > 0 for row in rows[1:])
    learner.update(1)
    assert len(learner.metrics()) == 4, "an interval without a look at the conflicts"


def test_learning_rates_fall_linearly_and_stay_at_their_end(build: Build) -> None:
    learner = build(decay_updates=10, decay_to=0.2, actor_learning_rate=1e-3, critic_learning_rate=2e-3)
    rates = []
    for _ in range(13):
        learner.update(1)
        rates.append((learner.actor.learning_rate, learner.critic.learning_rate))
    assert [round(actor * 1e3, 6) for actor, _ in rates[:3]] == [1.0, 0.92, 0.84]
    assert rates[-1] == rates[-2] == pytest.approx((0.2e-3, 0.4e-3))
    assert all(critic == pytest.approx(2 * actor) for actor, critic in rates)


def test_one_shared_temperature_serves_all_tasks(build: Build) -> None:
    learner = build(temperature="shared")
    learner.update(10)
    assert learner.log_temperature.shape == (1,)
    assert len({row["temperature"] for row in learner.metrics()[1:]}) == 1


def test_the_target_entropy_counts_the_used_coordinates(build: Build) -> None:
    assert build()._target_entropy_K.tolist() == [-2.0, -2.0, -1.0]
    assert build(target_entropy=-0.5)._target_entropy_K.tolist() == [-0.5] * 3


def test_the_critics_losses_are_averaged_or_summed(build: Build) -> None:
    """The same batch twice: loss and gradient of the sum of two critics are twice those of the mean."""
    directions, losses = {}, {}
    for reduction in ("mean", "sum"):
        learner = build(critic_reduction=reduction, max_grad_norm=None)
        learner.update(1)
        directions[reduction] = learner.critic.direction_C.clone()
        losses[reduction] = [row["critic/loss"] for row in learner.metrics()[1:]]
    torch.testing.assert_close(directions["sum"], 2 * directions["mean"])
    assert losses["sum"] == pytest.approx([2 * loss for loss in losses["mean"]], rel=1e-6)


def test_the_temperatures_loss_by_hand(build: Build) -> None:
    """One temperature e^-1 for three tasks whose policies have the entropies -1, 0.5 and 2 nats, target -2.

    The gradient of log_alpha (entropy + 2) is the mean of 1, 2.5 and 4; that of alpha (entropy + 2) is e^-1 times it.
    """
    for loss, expected in (("log_temperature", 2.5), ("temperature", 2.5 / math.e)):
        learner = build(
            temperature="shared", temperature_loss=loss, target_entropy=-2.0, initial_temperature=1 / math.e
        )
        learner._temperature_step(torch.tensor([-1.0, 0.5, 2.0]))
        assert learner.log_temperature.grad is not None
        assert learner.log_temperature.grad.tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", "warm"),
        ("hidden_sizes", []),
        ("batch_size", 0),
        ("discount", 1.5),
        ("max_grad_norm", -1.0),
        ("log_std_min", 5.0),
        ("initializer", "xavier"),
        ("temperature_loss", "alpha"),
        ("critic_reduction", "max"),
        ("actor_learning_rate", 0.0),
        ("updates_per_step", -1.0),
        ("decay_updates", 0),
        ("observation_normalization", "running"),
    ],
)
def test_a_bad_option_is_named(key: str, value: object) -> None:
    with pytest.raises(AgentError, match=f"agent.{key}="):
        AgentConfig(**{key: value}).validate()  # type: ignore[arg-type]


@pytest.mark.gpu
def test_an_update_runs_on_cuda_without_waiting_for_it(build: Build) -> None:
    learner = build("samgs", device="cuda")
    learner.update(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.update(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert learner.metrics()[0]["update"] == 5
