"""The typed configuration of a supervised run, and what it is called (no torch import: the command line reads this)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from omegaconf import MISSING

from experiments_vision.data.registry import DATASETS, DataConfig
from experiments_vision.errors import VisionError
from mtrl_surgery.cli.schema import check_choice, check_least, from_mapping, mapping_hash, typed
from mtrl_surgery.cli.trust import load_stored
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.runs.checkpoint import CheckpointConfig
from mtrl_surgery.runs.sinks import LoggerConfig

METHOD_KEYS = ("method",)
NAMELESS = ("plugins", "out", "resume", "folder", "logger")
"""Keys that say where a run is written and shown, and where its code is found; they take no part in its name."""

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("none", "step", "plateau")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass
class OptimizerConfig:
    """The optimizer and its learning rate."""

    name: Annotated[str, "adam | adamw | sgd"] = "adam"
    lr: Annotated[float, "learning rate"] = 1e-3
    weight_decay: Annotated[float, "of the optimizer"] = 0.0
    momentum: Annotated[float, "of sgd"] = 0.9
    schedule: Annotated[str, "none | step (every step_epochs) | plateau (when the validation score stands still)"] = (
        "none"
    )
    step_epochs: Annotated[int, "epochs between two falls of the rate"] = 100
    factor: Annotated[float, "what the rate is multiplied with"] = 0.5
    patience: Annotated[int, "plateau: epochs without a better score before the rate falls"] = 5
    min_lr: Annotated[float, "plateau: the least rate"] = 0.0

    def validate(self) -> None:
        """Check every option.

        Raises:
            SettingsError: a value makes no sense; names the key and the choices.
        """
        check_choice("optimizer.name", self.name, OPTIMIZERS)
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        check_least({"optimizer.step_epochs": (self.step_epochs, 1), "optimizer.patience": (self.patience, 0)})
        check_least({"optimizer.weight_decay": (self.weight_decay, 0), "optimizer.min_lr": (self.min_lr, 0)})
        if not self.lr > 0:
            raise VisionError(f"optimizer.lr={self.lr} must be above 0")
        for key, value in (("factor", self.factor), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise VisionError(f"optimizer.{key}={value} must be in [0, 1)")


@dataclass
class VisionSettings:
    """Everything that decides a supervised run; `dataset=<name>` presets all of it as published."""

    dataset: DataConfig = field(default_factory=DataConfig)
    model: Annotated[str | None, "null: the data set's first"] = None
    method: Annotated[Any, "the surgery's name; method.OPTION=VALUE sets its options"] = MISSING
    max_norm: Annotated[
        float | None, "of the shared parameters' direction, for every method alike; null: no clipping"
    ] = 1.0
    features: Annotated[bool, "surgery at the trunk's last features (one trunk pass) instead of at its parameters"] = (
        False
    )
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: Annotated[int, "passes over the training split"] = 20
    batch_size: Annotated[int, "examples of one update, over all processes"] = 256
    accumulate: Annotated[int, "micro-batches that an update's batch is cut into, where memory is short"] = 1
    precision: Annotated[str, "float32 | bfloat16 | float16 (automatic mixed precision; float16 needs CUDA)"] = (
        "float32"
    )
    workers: Annotated[int, "processes that load data; 0: the trainer itself"] = 0
    evaluate_every: Annotated[int, "epochs between two evaluations; the last epoch is always evaluated"] = 1
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    checkpoint: Annotated[CheckpointConfig, "every: epochs"] = field(default_factory=lambda: CheckpointConfig(every=1))
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)
    seed: Annotated[int, "of everything random"] = 0
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[int | None, "CPU threads; null: all cores"] = None
    log_every: Annotated[int, "updates between two rows of metrics"] = 50
    plugins: Annotated[list[str], "modules of yours that add methods, imported first: plugins=my_methods"] = field(
        default_factory=list
    )
    out: Annotated[str, PATH, "the folder that run folders are made in"] = "runs/vision"
    resume: Annotated[str | None, PATH, "a run folder to go on with"] = None
    folder: Annotated[str | None, PATH, "this run's own folder: begun if it is not there, gone on with if it is"] = None

    def to_mapping(self) -> dict[str, Any]:
        """Nested dictionaries, lists and plain values, as config.yaml holds them."""
        return asdict(self)


def validate(settings: VisionSettings) -> None:
    """Check every key that torch or the data would only trip over later.

    Raises:
        VisionError, SettingsError, RunError, DiagnosticsError: a value makes no sense; the message names the key, the
            value and the choices.
    """
    least = dict.fromkeys(("epochs", "batch_size", "accumulate", "evaluate_every", "threads", "log_every"), 1)
    check_least({key: (getattr(settings, key), number) for key, number in {**least, "workers": 0, "seed": 0}.items()})
    check_choice("dataset", settings.dataset.name, DATASETS)
    check_choice("precision", settings.precision, PRECISIONS)
    if settings.device.split(":")[0] not in ("auto", "cpu", "cuda"):
        check_choice("device", settings.device, ("auto", "cpu", "cuda", "cuda:N"))
    if settings.max_norm is not None and not settings.max_norm > 0:
        raise VisionError(f"max_norm={settings.max_norm} must be above 0, or null")
    if settings.batch_size % settings.accumulate:
        raise VisionError(f"accumulate={settings.accumulate} must divide batch_size={settings.batch_size}")
    if settings.features and settings.accumulate > 1:
        raise VisionError(f"features=true cannot be accumulated over accumulate={settings.accumulate} micro-batches")
    for room in (settings.optimizer, settings.logger, settings.checkpoint, settings.diagnostics, settings.method):
        if hasattr(room, "validate"):
            room.validate()


def run_name(settings: VisionSettings) -> str:
    """`<dataset>_<model>_<method>_s<seed>_<hash>`: runs that differ in anything but where they lie differ in name."""
    digits = mapping_hash(settings.to_mapping(), NAMELESS)
    return f"{settings.dataset.name}_{settings.model}_{settings.method.name}_s{settings.seed}_{digits}"


def settings_from_mapping(mapping: Mapping[str, Any], where: str | Path) -> VisionSettings:
    """Rebuild typed settings from the nested dictionaries of a config.yaml.

    Raises:
        SettingsError, PluginError: a key, a method or a module is unknown here, or a value has the wrong type.
    """
    load_stored(mapping.get("plugins"), where)
    return to_settings(from_mapping(mapping, where, VisionSettings, METHOD_KEYS))


def to_settings(config: Any) -> VisionSettings:
    """Turn a composed configuration into plain typed objects, interpolations resolved.

    Raises:
        SettingsError: a value is missing, or has the wrong type.
    """
    return typed(config, VisionSettings, METHOD_KEYS)
