"""Options of the soft actor-critic agent (no torch import: the command line reads this to print its help)."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    name: str = "mtsac"
    hidden_sizes: list[int] = field(default_factory=lambda: [400, 400, 400])
    initializer: str = "he_uniform"  # he_uniform (last layer +-1e-3) | xavier_uniform (all layers, as mtrl does)
    critic_layer_norm: bool = False  # normalise the critics' hidden layers: steadier values at high learning rates
    critics: int = 2  # size of the critic ensemble; the target is its minimum
    critic_reduction: str = "mean"  # mean | sum: of the critics' losses, one a task
    one_hot: bool = True  # append the task's one-hot code to the observation
    temperature: str = "per_task"  # per_task | shared
    temperature_loss: str = "log_temperature"  # log_temperature | temperature: what its loss is linear in
    initial_temperature: float = 1.0
    target_entropy: float | None = None  # nats; null: minus the number of action coordinates that the task uses
    log_std_min: float = -20.0
    log_std_max: float = 2.0
    log_std_bound: str = "clamp"  # clamp | tanh (rescaled into the range, as mtrl does)
    discount: float = 0.99
    tau: float = 0.005  # share of the new weights in each step of the target networks
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 3e-4
    decay_updates: int | None = (
        None  # updates in which actor's and critics' learning rates fall to their end; null: never
    )
    decay_to: float = 0.05  # share of the learning rates that is left at that end
    adam_eps: float = 1e-5
    max_grad_norm: float | None = 1.0  # the surgery's direction is clipped to this norm; null: not at all
    batch_size: int = 128  # transitions a task and update
    replay_capacity: int = 100_000  # transitions a task
    warmup_steps: int = 4_000  # vector steps of uniform random actions before the first update
    warmup_burst: bool = False  # make up for the warm-up's updates at once when it ends, as mtrl does
    updates_per_step: float = 1.0  # updates for each vector step
    reward_normalization: str = "none"  # none | exponential: at sampling, the replay keeps raw rewards
    reward_alpha: float = 0.001  # rate of the exponential reward statistics
    reward_scale: float = 1.0  # factor of the rewards at sampling
    observation_normalization: str = "none"  # none | warmup: by mean and deviation of the random warm-up

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
