"""Soft actor-critic on K tasks, with gradient surgery on the actor and on the critics.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905; the multitask recipe is
Meta-World+'s (arXiv 2505.11289). Where that and mtrl's differ, `AgentConfig` has an option.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.config import AgentConfig, share_of_batch
from agents.metrics import MetricSums
from agents.networks import bound_log_std, initial_mlp, squashed_gaussian
from agents.observations import ObservationScale
from agents.policy import actor_sizes, critic_sizes
from agents.problem import Problem
from agents.replay import Batch, Replay, Share, Transitions
from agents.rewards import ExponentialRewardScale
from agents.streams import Stream, torch_generator
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.jacobian.sharding import Whole
from mtrl_surgery.jacobian.task_mlp import TaskMLP
from mtrl_surgery.jacobian.update import SurgeryOptimizer
from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.tensors import NonFiniteError

OWN = ("sampling", "noise", "replay")
"""Keys of the state that differ between learners."""
METRICS_EVERY = 10  # updates between two that are counted in the metrics: summing them costs as much as a small layer


class SACLearner:
    """Networks, optimizers, temperatures and replay of one multitask SAC agent."""

    own_keys = OWN

    def __init__(
        self,
        problem: Problem,
        config: AgentConfig,
        actor_method: AnyMethod,
        critic_method: AnyMethod,
        seed: int,
        device: str,
        diagnostics: DiagnosticsConfig | None = None,
        sharding: Whole | None = None,
    ) -> None:
        """Build everything from the seed.

        Args:
            problem: the tasks and their spaces.
            config: the agent's options.
            actor_method: the surgery on the actor's task gradients.
            critic_method: the surgery on the critics'; another instance than the actor's.
            seed: seed of the run; the learner's streams are spawned from it by name.
            device: where networks and replay live.
            diagnostics: when to look at the task gradients; the defaults when not given.
            sharding: the exchange between several learners, all built alike but for it; None: this is the only one.

        Raises:
            AgentError: an option makes no sense, or the batch can't be shared out to so many learners.
            DiagnosticsError: the same for one of the diagnostics.
            ValueError: actor and critic share one method instance.
        """
        config.validate()
        self.diagnostics = diagnostics or DiagnosticsConfig()
        self.diagnostics.validate()
        if actor_method is critic_method:
            raise ValueError("actor and critic need a method instance each: the state of a method is a network's own")
        self.problem, self.config, self.device = problem, config, torch.device(device)
        self.sharding = sharding or Whole()
        self._batch_size = share_of_batch(config, self.sharding.size)
        self.updates = 0
        actor, critic = (
            initial_mlp(
                members, sizes, config.initializer, torch_generator(seed, Stream.INITIAL_WEIGHTS, network), self.device
            )
            for network, (members, sizes) in enumerate(
                [(1, actor_sizes(problem, config)), (config.critics, critic_sizes(problem, config))]
            )
        )
        clip, eps = config.max_grad_norm, config.adam_eps
        self.actor = SurgeryOptimizer(actor, actor_method, config.actor_learning_rate, eps, clip, sharding)
        self.critic = SurgeryOptimizer(critic, critic_method, config.critic_learning_rate, eps, clip, sharding)
        self.target = critic.copy()
        self._actor = TaskMLP(actor)
        self._critic, self._target = (TaskMLP(network, config.critic_layer_norm) for network in (critic, self.target))

        shared = config.temperature == "shared"
        self.log_temperature = torch.full((1 if shared else problem.num_tasks,), 0.0, device=self.device)
        self.log_temperature += float(np.log(config.initial_temperature))
        self._temperature_optimizer = torch.optim.Adam(
            [self.log_temperature], lr=config.temperature_learning_rate, eps=eps, fused=True
        )
        self._mask_K1A = torch.from_numpy(problem.action_mask_KA).float().to(self.device).unsqueeze(1)
        self._target_entropy_K = -self._mask_K1A.sum((1, 2))
        if config.target_entropy is not None:
            self._target_entropy_K = torch.full_like(self._target_entropy_K, config.target_entropy)
        code_KK = torch.eye(problem.num_tasks, device=self.device)
        self._code_KBK = code_KK.unsqueeze(1).expand(-1, self._batch_size, -1)

        rank, size = self.sharding.rank, self.sharding.size
        capacity = -(-config.replay_capacity // size)
        self.replay = Replay(
            problem.num_tasks, capacity, problem.observation_dim, problem.action_dim, self.device, Share(rank, size)
        )
        self._observations = ObservationScale(problem.observation_dim, self.device)
        self._normalizes = config.observation_normalization == "warmup"
        self._rewards = ExponentialRewardScale(problem.num_tasks, config.reward_alpha, self.device)
        of_rank = (rank,) if rank else ()
        self._sampling = torch_generator(seed, Stream.LEARNER, 0, *of_rank)
        self._noise = torch_generator(seed, Stream.LEARNER, 1, *of_rank, device=self.device)
        self._sums = MetricSums(problem.tasks)

    def add(self, chunk: Transitions) -> None:
        """Put a chunk of transitions, or this learner's share of it, into the replay; the statistics are of all.

        The chunk that ends the random warm-up brings the observation statistics: the policy's first step has them.
        """
        before, warmup = self.seen, self.config.warmup_steps * chunk.reward_KTN.shape[2]
        self.replay.add(chunk)
        if self._normalizes and before < warmup <= self.seen:
            self._observations.fit(self.replay.observations(), self.sharding)
        if self.config.reward_normalization == "exponential":
            self._rewards.observe(chunk)

    def update(self, count: int) -> None:
        """Do `count` updates of critics, actor, temperatures and targets."""
        shape = (2, self.problem.num_tasks, self._batch_size, self.problem.action_dim)
        for _ in range(count):
            batch = self.replay.sample(self._batch_size, self._sampling)
            self.step(batch, torch.randn(shape, generator=self._noise, device=self.device))

    def step(self, batch: Batch, noise_2KBA: Tensor) -> None:
        """One update from these transitions.

        Args:
            batch: B transitions of each task; of several learners, each one's share.
            noise_2KBA: standard normal numbers for the actions after the transitions, and for those before.
        """
        config = self.config
        self._decay_learning_rates()
        diagnose, curvature = self.diagnostics.due(self.updates), self.diagnostics.curvature
        temperature_K1 = self.log_temperature.exp().expand(self.problem.num_tasks).unsqueeze(1)
        obs_KBI, next_obs_KBI = self._coded(batch.obs_KBO), self._coded(batch.next_obs_KBO)
        reward_KB = batch.reward_KB * config.reward_scale
        if config.reward_normalization == "exponential":
            reward_KB = self._rewards.normalize(reward_KB)
        next_noise_KBA, noise_KBA = noise_2KBA

        with torch.no_grad():
            next_action_KBA, next_log_prob_KB = self._act(next_obs_KBI, next_noise_KBA)
            next_q_KB = self._q(self._target, next_obs_KBI, next_action_KBA).amin(0)
            soft_KB = next_q_KB - temperature_K1 * next_log_prob_KB
            backup_KB = reward_KB + config.discount * (1.0 - batch.terminated_KB) * soft_KB

        def critic_losses(theta: Tensor) -> Tensor:
            q_EKB = self._q(self._critic, obs_KBI, batch.action_KBA, theta)
            loss_EK = (q_EKB - backup_KB).square().mean(-1)
            return loss_EK.sum(0) if config.critic_reduction == "sum" else loss_EK.mean(0)

        log_probs: list[Tensor] = []

        def actor_losses(theta: Tensor) -> Tensor:
            action_KBA, log_prob_KB = self._act(obs_KBI, noise_KBA, theta)
            log_probs.append(log_prob_KB.detach())
            q_KB = self._q(self._critic, obs_KBI, action_KBA).amin(0)
            return (temperature_K1 * log_prob_KB - q_KB).mean(-1)

        critic_loss_K = self.critic.step(critic_losses, self.updates, diagnose, curvature)
        actor_loss_K = self.actor.step(actor_losses, self.updates, diagnose, curvature)
        # The first call is the update's own; methods and diagnostics may ask for the losses elsewhere after it.
        entropy_K = self.sharding.mean(-log_probs[0].mean(-1))
        self._temperature_step(entropy_K)
        self.target.vector_P.lerp_(self.critic.parameters.vector_P, config.tau)

        counted = self.updates % METRICS_EVERY == 0
        self.updates += 1
        networks = {"critic": self.critic, "actor": self.actor}
        if diagnose:
            self._sums.add_look(networks)
        if not counted:
            return
        target_K, reward_K = self.sharding.mean(torch.stack([backup_KB.mean(-1), reward_KB.mean(-1)]))
        self._sums.add(
            {
                "critic/loss": critic_loss_K,
                "actor/loss": actor_loss_K,
                "actor/entropy": entropy_K,
                "target_q": target_K,
                "temperature": temperature_K1[:, 0],
                "reward": reward_K,
            },
            networks,
        )

    def _decay_learning_rates(self) -> None:
        # Linear, and a function of the update's number alone, so that a resumed run goes on where it was.
        config = self.config
        if config.decay_updates is None:
            return
        left = max(0.0, 1.0 - self.updates / config.decay_updates)
        share = config.decay_to + (1.0 - config.decay_to) * left
        self.actor.learning_rate = share * config.actor_learning_rate
        self.critic.learning_rate = share * config.critic_learning_rate

    def _temperature_step(self, entropy_K: Tensor) -> None:
        # d/d(log alpha) of -log_alpha (log_prob + target) averaged over the batch; a shared one averages over tasks.
        gradient_K = entropy_K - self._target_entropy_K
        if self.config.temperature_loss == "temperature":  # of -alpha (log_prob + target), as mtrl has it
            gradient_K = gradient_K * self.log_temperature.exp()
        shared = self.log_temperature.numel() == 1
        self.log_temperature.grad = gradient_K.mean(0, keepdim=True) if shared else gradient_K
        self._temperature_optimizer.step()

    def _coded(self, obs_KBO: Tensor) -> Tensor:
        if self._normalizes:
            obs_KBO = self._observations(obs_KBO)
        return torch.cat([obs_KBO, self._code_KBK], dim=-1) if self.config.one_hot else obs_KBO

    def _act(self, obs_KBI: Tensor, noise_KBA: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        config = self.config
        mean_KBA, log_std_KBA = self._actor(obs_KBI, theta)[0].chunk(2, dim=-1)
        log_std_KBA = bound_log_std(log_std_KBA, config.log_std_min, config.log_std_max, config.log_std_bound)
        return squashed_gaussian(mean_KBA, log_std_KBA, noise_KBA, self._mask_K1A)

    def _q(self, critic: TaskMLP, obs_KBI: Tensor, action_KBA: Tensor, theta: Tensor | None = None) -> Tensor:
        return critic(torch.cat([obs_KBI, action_KBA], dim=-1), theta)[..., 0]

    @property
    def seen(self) -> int:
        """Transitions that every task has received, in all learners together."""
        return int(self.replay.seen_K.min())

    def close(self) -> None:
        """Nothing to free: the memory goes with the object."""

    def policy_weights(self) -> np.ndarray:
        """A copy of the actor's flat float32 weights, and of the observation statistics, for `Policy.load`."""
        parts = [self.actor.parameters.vector_P]
        if self._normalizes:
            parts += [self._observations.mean_O, self._observations.scale_O]
        return torch.cat(parts).cpu().numpy()

    def metrics(self) -> list[dict[str, Any]]:
        """Means since the last call: one row for the run (task None), then one a task.

        This is where the learner waits for the device.

        Raises:
            NonFiniteError: a loss or gradient was NaN or infinite; names the network, the task and the update.
        """
        bad = [
            (update, order, name, task)
            for order, (name, network) in enumerate((("critic", self.critic), ("actor", self.actor)))
            for task, update in zip(self.problem.tasks, network.first_bad_update_K.tolist(), strict=True)
            if update >= 0
        ]
        if bad:  # the earliest is the cause; one step later everything is NaN
            update, _, name, task = min(bad)
            raise NonFiniteError(
                f"the {name}'s loss or gradient of task {task!r} was NaN or infinite at update {update}"
            )
        if not bool(torch.isfinite(self.log_temperature).all()):
            raise NonFiniteError(f"the temperature was NaN or infinite before update {self.updates}")
        return self._sums.rows(self.updates)

    def conflict_maps(self) -> list[dict[str, Any]]:
        """Which tasks' gradients conflicted, a row a network, where there were looks; call it after `metrics`."""
        return self._sums.maps(self.updates)

    def state_dict(self) -> dict[str, Any]:
        """Everything that future updates depend on, but for the replay's segments.

        Several learners must all call it; each has the same but for `OWN`.
        """
        return {
            "updates": self.updates,
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.vector_P.clone(),
            "log_temperature": self.log_temperature.detach().clone(),
            "temperature_adam": {
                name: value.clone()
                for name, value in self._temperature_optimizer.state.get(self.log_temperature, {}).items()
            },
            "sampling": self._sampling.get_state(),
            "noise": self._noise.get_state(),
            "observations": self._observations.state_dict(),
            "rewards": self._rewards.state_dict(),
            "replay": self.replay.state_dict(),
            "metrics": self._sums.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value (the replay's segments must be back already)."""
        self.updates = state["updates"]
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target.vector_P.copy_(state["target"])
        self.log_temperature.detach().copy_(state["log_temperature"])
        if state["temperature_adam"]:
            self._temperature_optimizer.state[self.log_temperature] = {
                name: value.to(self.device) for name, value in state["temperature_adam"].items()
            }
        self._sampling.set_state(state["sampling"].cpu())
        self._noise.set_state(state["noise"].cpu())
        self._observations.load_state_dict(state["observations"])
        self._rewards.load_state_dict(state["rewards"])
        self.replay.load_state_dict(state["replay"])
        self._sums.load_state_dict(state["metrics"])
