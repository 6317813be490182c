"""The networks by name. A network's module is loaded when one is made, so listing them needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments_vision.errors import VisionError
from experiments_vision.tasks import TASKS

if TYPE_CHECKING:
    from experiments_vision.contract import MultiTaskModel


@dataclass(frozen=True)
class ModelEntry:
    """The facts of a network before it is made."""

    summary: str
    cls: str  # `module:class` in this room; it takes `tasks` and these facts of the data
    facts: tuple[str, ...] = ()
    by_features: bool = True
    """All shared parameters are behind its features; else only methods that weight the tasks work there."""


_DENSE = {
    "mtan": ModelEntry("SegNet with an attention branch a task", "mtan:MTAN", ("classes",), by_features=False),
    "segnet": ModelEntry("SegNet with a head a task", "segnet:SegNet", ("classes",)),
}
MODELS: dict[str, dict[str, ModelEntry]] = {
    "nyuv2": _DENSE,
    "cityscapes": _DENSE,
    "celeba": {"convnet": ModelEntry("7 convolutions, 2 linear layers, 40 heads", "convolutional:ConvNet")},
    "qm9": {"mpnn": ModelEntry("message passing between atoms", "mpnn:MPNN")},
    "multidigits": {
        "lenet": ModelEntry("2 convolutions, a linear layer, a small head a task", "convolutional:LeNet", ("size",))
    },
}
"""A data set -> the networks that it was published with, that of the newer papers first, by name."""


_PUBLISHED: dict[str, dict[str, Any]] = {
    "nyuv2": {"classes": 13},
    "cityscapes": {"classes": 7},
    "multidigits": {"size": 12},
}
"""Facts of the data as published."""


def make_model(
    name: str, dataset: str, seed: int, facts: Mapping[str, Any] | None = None, only: str | None = None
) -> MultiTaskModel:
    """A fresh network on the CPU; torch's global random stream is left where it was.

    Args:
        name: One of `MODELS[dataset]`.
        dataset: A data set's name.
        seed: Decides the initial weights.
        facts: A data source's; those that the network needs replace the published ones, such as `classes`.
        only: One task, for the single-task baseline: a network of its own with that head alone. The SegNets' trunk
            begins with the same weights as that for all tasks.

    Raises:
        VisionError: for an unknown name, data set or task, with the choices.
    """
    import torch

    _choose("dataset", dataset, tuple(MODELS), " is unknown")
    _choose("model", name, tuple(MODELS[dataset]), f" is no network for {dataset}")
    entry, tasks = MODELS[dataset][name], TASKS[dataset]
    if only is not None:
        _choose("only", only, tasks, f" is no task of {dataset}")
        tasks = (only,)
    known = _PUBLISHED.get(dataset, {}) | dict(facts or {})
    needed = {key: known[key] for key in entry.facts}
    module, _, class_name = entry.cls.partition(":")
    cls = getattr(import_module(f"experiments_vision.models.{module}"), class_name)
    with torch.random.fork_rng(devices=()), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
        model: MultiTaskModel = cls(tasks, **needed)
    return model


def _choose(key: str, value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise VisionError(f"{key}={value}{what}; choose from {', '.join(choices)}")
