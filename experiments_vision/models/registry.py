"""The networks by name. A network's module is loaded when one is made, so listing them needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments_vision.errors import VisionError
from experiments_vision.tasks import TASKS

if TYPE_CHECKING:
    from experiments_vision.contract import MultiTaskModel


@dataclass(frozen=True)
class ModelEntry:
    """The facts of a network before it is made.

    Attributes:
        summary: In one line.
        cls: `module:class`; it takes `tasks` and the facts that it needs.
        facts: Which facts of the data it needs, with their published values: its keyword arguments.
        by_features: Whether all shared parameters are behind its features; where they are not, only methods that weight
            the tasks can do surgery there.
    """

    summary: str
    cls: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    by_features: bool = True


_SEGNET = "experiments_vision.models.segnet:SegNet"
_MTAN = "experiments_vision.models.mtan:MTAN"
_CONVNET = "experiments_vision.models.convolutional:ConvNet"
_MPNN = "experiments_vision.models.mpnn:MPNN"
_LENET = "experiments_vision.models.convolutional:LeNet"

MODELS: dict[str, dict[str, ModelEntry]] = {
    "nyuv2": {
        "mtan": ModelEntry("SegNet with an attention branch a task", _MTAN, {"classes": 13}, by_features=False),
        "segnet": ModelEntry("SegNet with a head a task", _SEGNET, {"classes": 13}),
    },
    "cityscapes": {
        "mtan": ModelEntry("SegNet with an attention branch a task", _MTAN, {"classes": 7}, by_features=False),
        "segnet": ModelEntry("SegNet with a head a task", _SEGNET, {"classes": 7}),
    },
    "celeba": {"convnet": ModelEntry("7 convolutions, 2 linear layers, 40 heads", _CONVNET)},
    "qm9": {"mpnn": ModelEntry("message passing between atoms", _MPNN)},
    "multidigits": {"lenet": ModelEntry("2 convolutions, a linear layer, a small head a task", _LENET, {"size": 12})},
}
"""A data set -> the networks that it was published with, that of the newer papers first, by name."""


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

    entry = find_model(name, dataset)
    tasks = TASKS[dataset]
    if only is not None:
        _choose("only", only, tasks, f" is no task of {dataset}")
        tasks = (only,)
    needed = {key: (facts or {}).get(key, value) for key, value in entry.facts.items()}
    module, _, class_name = entry.cls.partition(":")
    cls = getattr(import_module(module), class_name)
    with torch.random.fork_rng(devices=()), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
        model: MultiTaskModel = cls(tasks, **needed)
    return model


def find_model(name: str, dataset: str) -> ModelEntry:
    """The entry of a name.

    Raises:
        VisionError: for an unknown name or data set, with the choices.
    """
    _choose("dataset", dataset, tuple(MODELS), " is unknown")
    _choose("model", name, tuple(MODELS[dataset]), f" is no network for {dataset}")
    return MODELS[dataset][name]


def _choose(key: str, value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise VisionError(f"{key}={value}{what}; choose from {', '.join(choices)}")
