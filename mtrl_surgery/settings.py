"""The typed configuration of a whole run, and what a run is called (no torch import: the command line reads this)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from omegaconf import MISSING

from agents.config import AgentConfig, share_of_batch
from cluster.config import ClusterConfig, LearnerConfig
from envs.config import EnvConfig
from envs.evaluation import PROTOCOLS
from mtrl_surgery.cli.resuming import check_belongs
from mtrl_surgery.cli.schema import SettingsError, check_choice, check_least, from_mapping, mapping_hash, typed
from mtrl_surgery.cli.trust import load_stored
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointConfig
from mtrl_surgery.runs.sinks import LoggerConfig

ENV_KINDS = ("metaworld", "gymnasium", "factory")
METHOD_KEYS = ("method", "actor_method", "critic_method")
"""Keys that hold a method's options; the first must."""
NAMELESS = ("plugins", "out", "resume", "folder", "trust", "logger")
"""Keys that say where a run is written and shown, and whose code it runs; they take no part in its name."""
FREE = (
    "total_steps", "device", "threads", "log_every", "plugins",
    "cluster.kind", "cluster.address", "cluster.workers", "cluster.max_restarts", "cluster.hang_timeout",
    "cluster.start_timeout", "cluster.object_store_mb",
    "learner.cpus", "learner.gpus", "learner.timeout", "learner.max_restarts",
    "evaluation.", "checkpoint.", "logger.", "diagnostics.",
)  # fmt: skip
"""Keys that a resumed run may have otherwise (a trailing dot: the whole group). Device and threads change the bits to
come, never what was done; whoever moves a run to another machine needs them."""


@dataclass
class EvaluationConfig:
    """When and how the policy is tested: deterministic actions, its own goals and streams."""

    every: Annotated[int, "vector steps between two evaluations; 0: only at the end"] = 10_000
    episodes: Annotated[int, "episodes a task while training"] = 10
    final_episodes: Annotated[int, "episodes a task at the end: one for each of Meta-World's goals"] = 50
    protocol: Annotated[
        str | None, "metaworld_plus | mtrl | suite; null: metaworld_plus, or suite beyond Meta-World"
    ] = None


@dataclass
class TrainSettings:
    """Everything that decides a run. The groups are the rooms' own options.

    `method` serves the networks that have none of their own in `actor_method` and `critic_method`.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    method: Annotated[Any, "the surgery's name; method.OPTION=VALUE sets its options"] = MISSING
    actor_method: Annotated[Any, "another method for the actor alone; null: method"] = None
    critic_method: Annotated[Any, "another method for the critics alone; null: method"] = None
    agent: AgentConfig = field(default_factory=AgentConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)
    total_steps: Annotated[int, "vector steps, that is steps of every copy of every task"] = 1_000_000
    seed: Annotated[int, "of everything random"] = 0
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[
        int | None, "CPU threads of the learner; null: all cores for a large update, else half of them"
    ] = None
    log_every: Annotated[int, "vector steps between two rows of metrics"] = 1_000
    plugins: Annotated[list[str], "modules of yours that add methods, imported first: plugins=my_methods"] = field(
        default_factory=list
    )
    out: Annotated[str, PATH, "the folder that run folders are made in"] = "runs"
    resume: Annotated[str | None, PATH, "a run folder to go on with"] = None
    folder: Annotated[str | None, PATH, "this run's own folder: begun if it is not there, gone on with if it is"] = None
    trust: Annotated[bool, "let a run that goes on import code that its folder names; never stored"] = False

    @property
    def method_of(self) -> dict[str, Any]:
        """The method's options for each network: "actor" and "critic"."""
        return {"actor": self.actor_method or self.method, "critic": self.critic_method or self.method}

    def to_mapping(self) -> dict[str, Any]:
        """Nested dictionaries, lists and plain values, as config.yaml holds them."""
        return asdict(self)


def validate(settings: TrainSettings) -> None:
    """Check every key that the rooms' own constructors would only trip over later.

    Raises:
        SettingsError: a value makes no sense; the message names the key, the value and the choices.
        AgentError: the same for a key of `agent`.
        ClusterError: the same for a key of `cluster`.
        DiagnosticsError: the same for a key of `diagnostics`.
    """
    check_least(
        {
            "total_steps": (settings.total_steps, 1),
            "seed": (settings.seed, 0),
            "log_every": (settings.log_every, 1),
            "threads": (settings.threads, 1),
            "evaluation.every": (settings.evaluation.every, 0),
            "evaluation.episodes": (settings.evaluation.episodes, 1),
            "evaluation.final_episodes": (settings.evaluation.final_episodes, 1),
            "env.horizon": (settings.env.horizon, 1),
            "env.num_goals": (settings.env.num_goals, 1),
            "env.copies": (settings.env.copies, 1),
        }
    )
    if settings.evaluation.protocol is not None:
        check_choice("evaluation.protocol", settings.evaluation.protocol, PROTOCOLS)
    check_choice("env.kind", settings.env.kind, ENV_KINDS)
    if settings.device.split(":")[0] not in ("auto", "cpu", "cuda"):
        check_choice("device", settings.device, ("auto", "cpu", "cuda", "cuda:N"))
    for room in (
        settings.agent,
        settings.cluster,
        settings.learner,
        settings.logger,
        settings.checkpoint,
        settings.diagnostics,
        *method_options(settings),
    ):
        if hasattr(room, "validate"):
            room.validate()
    if settings.learner.num > 1:
        if settings.cluster.kind == "inline":
            raise SettingsError(
                f"learner.num={settings.learner.num} needs Ray: choose cluster=local or cluster=ray, not cluster=inline"
            )
        share_of_batch(settings.agent, settings.learner.num)


def method_options(settings: TrainSettings) -> list[Any]:
    """The options of every method that the run uses, the actor's first."""
    return list(settings.method_of.values())


def method_label(settings: TrainSettings) -> str:
    """The run's method in a word: `samgs`, or `critic-famo_actor-ls` where the networks differ."""
    actor, critic = settings.method_of["actor"], settings.method_of["critic"]
    return str(actor.name) if actor == critic else f"critic-{critic.name}_actor-{actor.name}"


def env_imports(env: EnvConfig) -> list[str]:
    """The modules and callables that building an environment imports because the configuration names them."""
    tasks = [task.removeprefix("gym:").partition(":") for task in env.tasks if env.kind == "gymnasium"]
    return [*filter(None, [env.factory]), *(module for module, colon, _ in tasks if colon)]


def run_name(settings: TrainSettings) -> str:
    """`<env>_<method>_s<seed>_<hash>`: runs that differ in anything but where they are written have different names."""
    return f"{settings.env.name}_{method_label(settings)}_s{settings.seed}_{settings_hash(settings)}"


def settings_hash(settings: TrainSettings) -> str:
    """Eight hexadecimal digits of everything that decides the run."""
    return mapping_hash(settings.to_mapping(), NAMELESS)


def settings_from_mapping(mapping: Mapping[str, Any], where: str | Path) -> TrainSettings:
    """Rebuild typed settings from the nested dictionaries of a config.yaml.

    Args:
        mapping: the result of `TrainSettings.to_mapping`.
        where: the file it was read from, for the message.

    Raises:
        SettingsError: a key or a method is unknown here, or a value has the wrong type.
        PluginError: a module of the run's cannot be imported.
    """
    load_stored(mapping.get("plugins"), where)
    return to_settings(from_mapping(mapping, where, TrainSettings, METHOD_KEYS))


def check_made_with(checkpoint: Checkpoint, settings: TrainSettings) -> None:
    """Refuse a checkpoint that was made with other settings, but for those that a resumed run may change.

    Raises:
        SettingsError: names the keys with both values.
    """

    def plain(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
        return settings_from_mapping(mapping, checkpoint.path).to_mapping()

    check_belongs(checkpoint, settings.to_mapping(), plain, FREE)


def to_settings(config: Any) -> TrainSettings:
    """Turn a composed configuration into plain typed objects, interpolations resolved.

    Raises:
        SettingsError: a value is missing, or has the wrong type.
    """
    return typed(config, TrainSettings, METHOD_KEYS, METHOD_KEYS[1:])
