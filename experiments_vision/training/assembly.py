"""A run's parts from its settings: the one place that knows how the rooms fit together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from experiments_vision.contract import SPLITS
from experiments_vision.data.source import make_source
from experiments_vision.errors import VisionError
from experiments_vision.models.registry import MODELS, make_model
from experiments_vision.objectives.registry import make_objective
from experiments_vision.settings import VisionSettings
from experiments_vision.training.batches import Plan
from experiments_vision.training.recorder import Recorder
from experiments_vision.training.schedule import Rates, make_optimizer
from experiments_vision.training.trainer import VisionTrainer
from experiments_vision.training.update import Update, trainable
from experiments_vision.training.world import World, local_device
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.devices import resolve_device, resolve_threads
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.console import Progress
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.sinks import make_sinks
from mtrl_surgery.surgery import Surgery


def resolve(settings: VisionSettings) -> VisionSettings:
    """Settings with nothing left to the machine: device, threads and model, which must be there.

    Raises:
        SettingsError, VisionError: one of them is not, or the model cannot do what is asked.
    """
    models = MODELS[settings.dataset.name]
    model = settings.model or next(iter(models))
    check_choice("model", model, models)
    method = settings.method.name
    if settings.features and not models[model].by_features and METHODS[method].needs == "jacobian":
        raise VisionError(
            f"features=true: {model} shares parameters past its features, which method={method} has no weights for; "
            "see docs/vision_models.md"
        )
    device, threads = resolve_device(local_device(settings.device)), resolve_threads(settings.threads, float("inf"))
    return dataclasses.replace(settings, model=model, device=device, threads=threads)


def build_trainer(
    settings: VisionSettings, world: World, run: RunFolder | None, checkpoint: Checkpoint | None = None
) -> VisionTrainer:
    """A trainer that is ready to `run(checkpoint)`; it closes everything but the run folder itself.

    Settings are resolved ones; a process that does not lead has no run folder.

    Raises:
        VisionError, MethodError, RunError: an option makes no sense, or data or a sink is not to be had.
    """
    torch.set_num_threads(settings.threads or resolve_threads(None))
    device = torch.device(settings.device)
    # Held-out examples are the data set's own, whatever the run's seed; augmentation is the run's.
    source = make_source(settings.dataset)
    splits = {split: source.dataset(split) for split in SPLITS if split in source.splits()}
    examples = len(splits["train"])
    plan = Plan(examples, settings.batch_size, settings.accumulate, settings.epochs, settings.seed, world)
    objective = make_objective(settings.dataset.name, source.facts)
    model = make_model(settings.model or "", settings.dataset.name, stream_seed(settings.seed, 4), source.facts)
    model.to(device)
    method_seed = stream_seed(settings.seed, 5)
    surgery = Surgery(
        settings.method, len(objective.tasks), seed=method_seed, max_norm=settings.max_norm, process_group=world.group
    )
    optimizer = make_optimizer(settings.optimizer, trainable(model))
    update = Update(model, objective, surgery, optimizer, settings)
    rates = Rates(settings.optimizer, optimizer, "val" in splits)
    start = checkpoint.step if checkpoint else 0
    sinks = make_sinks(settings.logger, run, start if checkpoint else None) if run is not None else []
    shows = run is not None and settings.logger.console
    progress = Progress(plan.updates, start, None, unit="updates", measure="score") if shows else None
    recorder = Recorder(run, objective, sinks, progress)
    where, about = run.checkpoints if run is not None else Path("/nowhere"), {"config": settings.to_mapping()}
    store = CheckpointStore(where, settings.checkpoint.keep, about)
    return VisionTrainer(settings, source, splits, objective, update, rates, plan, world, recorder, store)


def stream_seed(seed: int, name: int) -> int:
    """A seed for one named purpose of a run: 4 the initial weights, 5 the method (3 is the order of the examples)."""
    return int(np.random.SeedSequence(seed, spawn_key=(name,)).generate_state(1)[0])
