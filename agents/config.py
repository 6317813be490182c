"""Options of the soft actor-critic agent (no torch import: the command line reads this to print its help)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

TEMPERATURES = ("per_task", "shared")
LOG_STD_BOUNDS = ("clamp", "tanh")
REWARD_NORMALIZATIONS = ("none", "exponential")
TEMPERATURE_LOSSES = ("log_temperature", "temperature")
CRITIC_REDUCTIONS = ("mean", "sum")
INITIALIZERS = ("he_uniform", "xavier_uniform")
OBSERVATION_NORMALIZATIONS = ("none", "warmup")


class AgentError(ValueError):
    """A bad option of the agent; the message names the key, the value and the choices."""


@dataclass
class AgentConfig:
    """Soft actor-critic on K tasks at once.

    The defaults are the Meta-World+ recipe (`agent=mtsac`); `configs/agent/mtrl.yaml` holds mtrl's. One vector step is
    one environment step of every copy of every task.
    """

    name: Annotated[str, "the recipe's name, for the record"] = "mtsac"
    hidden_sizes: Annotated[list[int], "widths of the hidden layers of actor and critics"] = field(
        default_factory=lambda: [400, 400, 400]
    )
    initializer: Annotated[str, "he_uniform (last layer +-1e-3) | xavier_uniform (all layers, as mtrl does)"] = (
        "he_uniform"
    )
    critic_layer_norm: Annotated[
        bool, "normalise the critics' hidden layers: steadier values at high learning rates"
    ] = False
    critics: Annotated[int, "size of the critic ensemble; the target is its minimum"] = 2
    critic_reduction: Annotated[str, "mean | sum: of the critics' losses, one a task"] = "mean"
    one_hot: Annotated[bool, "append the task's one-hot code to the observation"] = True
    temperature: Annotated[str, "per_task | shared"] = "per_task"
    temperature_loss: Annotated[str, "log_temperature | temperature: what its loss is linear in"] = "log_temperature"
    initial_temperature: Annotated[float, "entropy's weight at the start"] = 1.0
    target_entropy: Annotated[float | None, "nats; null: minus the number of action coordinates that the task uses"] = (
        None
    )
    log_std_min: Annotated[float, "least log standard deviation of an action"] = -20.0
    log_std_max: Annotated[float, "greatest log standard deviation of an action"] = 2.0
    log_std_bound: Annotated[str, "clamp | tanh (rescaled into the range, as mtrl does)"] = "clamp"
    discount: Annotated[float, "of future rewards"] = 0.99
    tau: Annotated[float, "share of the new weights in each step of the target networks"] = 0.005
    actor_learning_rate: Annotated[float, "step size of Adam for the actor"] = 3e-4
    critic_learning_rate: Annotated[float, "step size of Adam for the critics"] = 3e-4
    temperature_learning_rate: Annotated[float, "step size of Adam for the temperatures"] = 3e-4
    decay_updates: Annotated[
        int | None, "updates in which actor's and critics' learning rates fall to their end; null: never"
    ] = None
    decay_to: Annotated[float, "share of the learning rates that is left at that end"] = 0.05
    adam_eps: Annotated[float, "what Adam adds to its denominator"] = 1e-5
    max_grad_norm: Annotated[float | None, "the surgery's direction is clipped to this norm; null: not at all"] = 1.0
    batch_size: Annotated[int, "transitions a task and update"] = 128
    replay_capacity: Annotated[int, "transitions a task"] = 100_000
    warmup_steps: Annotated[int, "vector steps of uniform random actions before the first update"] = 4_000
    warmup_burst: Annotated[bool, "make up for the warm-up's updates at once when it ends, as mtrl does"] = False
    updates_per_step: Annotated[float, "updates for each vector step"] = 1.0
    reward_normalization: Annotated[str, "none | exponential: at sampling, the replay keeps raw rewards"] = "none"
    reward_alpha: Annotated[float, "rate of the exponential reward statistics"] = 0.001
    reward_scale: Annotated[float, "factor of the rewards at sampling"] = 1.0
    observation_normalization: Annotated[str, "none | warmup: by mean and deviation of the random warm-up"] = "none"

    def validate(self) -> None:
        """Check every option.

        Raises:
            AgentError: an option has a value that makes no sense; the message names it and what is allowed.
        """
        for key, choices in (
            ("temperature", TEMPERATURES),
            ("temperature_loss", TEMPERATURE_LOSSES),
            ("critic_reduction", CRITIC_REDUCTIONS),
            ("log_std_bound", LOG_STD_BOUNDS),
            ("reward_normalization", REWARD_NORMALIZATIONS),
            ("initializer", INITIALIZERS),
            ("observation_normalization", OBSERVATION_NORMALIZATIONS),
        ):
            if getattr(self, key) not in choices:
                raise AgentError(f"agent.{key}={getattr(self, key)!r} is unknown; choices: {', '.join(choices)}")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise AgentError(f"agent.hidden_sizes={list(self.hidden_sizes)} must be one or more positive widths")
        for key in ("critics", "batch_size", "replay_capacity"):
            if getattr(self, key) < 1:
                raise AgentError(f"agent.{key}={getattr(self, key)} must be at least 1")
        for key in ("warmup_steps", "updates_per_step"):
            if getattr(self, key) < 0:
                raise AgentError(f"agent.{key}={getattr(self, key)} must not be negative")
        for key in (
            "initial_temperature",
            "actor_learning_rate",
            "critic_learning_rate",
            "temperature_learning_rate",
            "adam_eps",
            "reward_scale",
        ):
            if not getattr(self, key) > 0:
                raise AgentError(f"agent.{key}={getattr(self, key)} must be positive")
        if self.decay_updates is not None and self.decay_updates < 1:
            raise AgentError(f"agent.decay_updates={self.decay_updates} must be at least 1, or null for no decay")
        for key in ("discount", "tau", "reward_alpha", "decay_to"):
            if not 0 < getattr(self, key) <= 1:
                raise AgentError(f"agent.{key}={getattr(self, key)} must lie in (0, 1]")
        if self.observation_normalization == "warmup" and self.warmup_steps < 1:
            raise AgentError(
                f"agent.observation_normalization=warmup measures the random warm-up, and agent.warmup_steps="
                f"{self.warmup_steps} leaves none: at least 1, or agent.observation_normalization=none"
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise AgentError(f"agent.max_grad_norm={self.max_grad_norm} must be positive, or null for no clipping")
        if self.log_std_min >= self.log_std_max:
            raise AgentError(f"agent.log_std_min={self.log_std_min} must be below agent.log_std_max={self.log_std_max}")


def share_of_batch(config: AgentConfig, learners: int) -> int:
    """Transitions of each task that one learner samples.

    Raises:
        AgentError: the batch can't be shared out evenly.
    """
    if config.batch_size % learners:
        raise AgentError(
            f"agent.batch_size={config.batch_size} can't be shared out to learner.num={learners}: "
            "choose a multiple of the learners"
        )
    return config.batch_size // learners
