"""The typed configuration of a whole run, and what a run is called (no torch import: the command line reads this)."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from agents.config import AgentConfig
from cluster.config import ClusterConfig
from envs.config import EnvConfig
from envs.evaluation import PROTOCOLS
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.config import CheckpointConfig, LoggerConfig

ENV_KINDS = ("metaworld", "gymnasium", "factory")
NAMELESS = ("out", "resume", "logger")
"""Keys that say where a run is written and shown; they take no part in its name."""


class SettingsError(ValueError):
    """A key or a value of the configuration that makes no sense; the message names it and the choices."""


@dataclass
class EvaluationConfig:
    """When and how the policy is tested: deterministic actions, its own goals and streams."""

    every: int = 10_000  # vector steps between two evaluations; 0: only at the end
    episodes: int = 10  # episodes a task while training
    final_episodes: int = 50  # episodes a task at the end: one for each of Meta-World's goals
    protocol: str | None = None  # metaworld_plus | mtrl | suite; null: metaworld_plus, or suite beyond Meta-World


@dataclass
class TrainSettings:
    """Everything that decides a run. The groups are the rooms' own options.

    `method` serves the networks that have none of their own in `actor_method` and `critic_method`.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    method: Any = MISSING
    actor_method: Any = None
    critic_method: Any = None
    agent: AgentConfig = field(default_factory=AgentConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)
    total_steps: int = 1_000_000  # vector steps, that is steps of every copy of every task
    seed: int = 0
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    threads: int | None = None  # CPU threads of the learner; null: all cores for a large update, else half of them
    log_every: int = 1_000  # vector steps between two rows of metrics
    out: str = "runs"  # the folder that run folders are made in
    resume: str | None = None  # a run folder to go on with

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
    at_least = {
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
    for key, (value, least) in at_least.items():
        if value is not None and value < least:
            raise SettingsError(f"{key}={value} must be at least {least}")
    if settings.evaluation.protocol is not None:
        check_choice("evaluation.protocol", settings.evaluation.protocol, PROTOCOLS)
    check_choice("env.kind", settings.env.kind, ENV_KINDS)
    if settings.device.split(":")[0] not in ("auto", "cpu", "cuda"):
        check_choice("device", settings.device, ("auto", "cpu", "cuda", "cuda:N"))
    for room in (
        settings.agent,
        settings.cluster,
        settings.logger,
        settings.checkpoint,
        settings.diagnostics,
        *method_options(settings),
    ):
        if hasattr(room, "validate"):
            room.validate()


def method_options(settings: TrainSettings) -> list[Any]:
    """The options of every method that the run uses, the actor's first."""
    return list(settings.method_of.values())


def method_label(settings: TrainSettings) -> str:
    """The run's method in a word: `samgs`, or `critic-famo_actor-ls` where the networks differ."""
    actor, critic = settings.method_of["actor"], settings.method_of["critic"]
    return str(actor.name) if actor == critic else f"critic-{critic.name}_actor-{actor.name}"


def run_name(settings: TrainSettings) -> str:
    """`<env>_<method>_s<seed>_<hash>`: runs that differ in anything but where they are written have different names."""
    return f"{settings.env.name}_{method_label(settings)}_s{settings.seed}_{settings_hash(settings)}"


def settings_hash(settings: TrainSettings) -> str:
    """Eight hexadecimal digits of everything that decides the run."""
    mapping = {key: value for key, value in settings.to_mapping().items() if key not in NAMELESS}
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def settings_from_mapping(mapping: Mapping[str, Any], where: str | Path) -> TrainSettings:
    """Rebuild typed settings from the nested dictionaries of a config.yaml.

    Args:
        mapping: what `TrainSettings.to_mapping` gave.
        where: the file it was read from, for the message.

    Raises:
        SettingsError: a key or a method is unknown here, or a value has the wrong type.
    """
    schema = OmegaConf.structured(TrainSettings)
    plain = dict(mapping)
    try:
        for key in ("method", "actor_method", "critic_method"):
            options = plain.pop(key, None)
            if options is not None:
                name = options["name"]
                check_choice(key, name, METHODS)
                schema[key] = OmegaConf.merge(OmegaConf.structured(METHODS[name].config), options)
        merged = OmegaConf.merge(schema, plain)
    except ConfigKeyError as error:
        raise SettingsError(f"{where}: unknown key '{error.full_key}'; was it written by another version?") from error
    except (OmegaConfBaseException, KeyError, TypeError) as error:
        raise SettingsError(f"{where} is not a run's configuration: {str(error).splitlines()[0]}") from error
    return to_settings(merged)


def to_settings(config: Any) -> TrainSettings:
    """Turn a composed configuration into plain typed objects, interpolations resolved.

    Raises:
        SettingsError: a value is missing, or has the wrong type.
    """
    try:
        _check_keys(config, "")
        settings = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise SettingsError(str(error).splitlines()[0]) from error
    if not isinstance(settings, TrainSettings):
        raise SettingsError("the configuration does not follow the schema of TrainSettings")
    for key in ("method", "actor_method", "critic_method"):
        options: Any = getattr(settings, key)
        if options is None and key != "method":
            continue
        if not isinstance(options, MethodConfig):
            raise SettingsError(f"{key}={options!r} is no method; choices: {', '.join(METHODS)}")
        entry = METHODS.get(options.name)
        if entry is None or not isinstance(options, entry.config):
            raise SettingsError(f"{key}.name={options.name!r} is not to be set by itself: choose with {key}=<method>")
    return settings


def _check_keys(config: Any, parent: str) -> None:
    """Refuse keys that `+key=value` slipped past the schema, where nothing would ever read them."""
    schema = OmegaConf.get_type(config)
    names = [f.name for f in fields(schema)] if is_dataclass(schema) else list(config)
    for key, value in config.items_ex(resolve=False):
        if str(key) not in names:
            raise SettingsError(unknown("key", f"{parent}{key!s}", [f"{parent}{name}" for name in names]))
        if isinstance(value, DictConfig) and not value._is_none():
            _check_keys(value, f"{parent}{key!s}.")


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise SettingsError unless the value is among the choices."""
    names = list(choices)
    if value not in names:
        raise SettingsError(unknown(key, value, names))


def unknown(what: str, value: str, choices: Iterable[str]) -> str:
    """`unknown <what> '<value>'; did you mean '<closest>'? choices: ...`."""
    names = list(choices)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown {what} '{value}'; {hint}choices: {', '.join(names)}"


def leaves(config: Mapping[str, Any] | DictConfig, prefix: str = "") -> dict[str, Any]:
    """Every plain value by its dotted key, `{"agent.tau": 0.005, ...}`; lists are values."""
    items = config.items_ex(resolve=False) if isinstance(config, DictConfig) else config.items()
    found: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, Mapping | DictConfig) and len(value):
            found.update(leaves(value, f"{prefix}{key!s}."))
        else:
            found[f"{prefix}{key!s}"] = value
    return found
