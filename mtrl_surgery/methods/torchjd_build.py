"""Makes TorchJD objects from import paths and plain arguments."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, Weighting
from torchjd.linalg import QuadprogProjector
from torchjd.scalarization import Scalarizer

from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.options.torchjd import DualprojConfig, NamedConfig, TorchjdConfig

_ROOMS = ("torchjd.aggregation", "torchjd.scalarization")
_OURS = {"NashMTL": "nashmtl", "FAMO": "famo"}
"""Classes that keep a solver or an optimizer of their own, which no checkpoint could hold."""


def build(num_tasks: int, config: MethodConfig) -> nn.Module:
    """The TorchJD object that a method's options describe.

    Raises:
        MethodError: for a path or an argument that TorchJD doesn't have, naming the choices.
    """
    if isinstance(config, TorchjdConfig):
        arguments = {} if config.arguments is None else config.arguments
        if not isinstance(arguments, Mapping):
            raise MethodError(f"torchjd.arguments={arguments!r}: must be a mapping or null")
        return _construct("torchjd.target", config.target, arguments, num_tasks)
    assert isinstance(config, NamedConfig)
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.metadata}
    arguments = {name: value for name, value in given.items() if value is not None and value != []}
    if isinstance(config, DualprojConfig):
        arguments["projector"] = _projector(config)
        del arguments["norm_eps"], arguments["reg_eps"]
    if config.name == "imtl_l":
        del arguments["lr"]  # the optimizer's
    return _construct(config.name, config.target, arguments, num_tasks)


def _projector(config: DualprojConfig) -> QuadprogProjector:
    try:
        return QuadprogProjector(norm_eps=config.norm_eps, reg_eps=config.reg_eps)
    except ImportError as error:
        raise MethodError(f"dualproj: {error}") from error


def _construct(key: str, path: str, arguments: Mapping[str, Any], num_tasks: int) -> nn.Module:
    cls = _find(key, path)
    parameters = inspect.signature(cls).parameters
    unknown = sorted(str(name) for name in arguments if name not in parameters)
    if unknown:
        raise MethodError(f"{key}: {path} takes {', '.join(parameters) or 'no arguments'}; not {', '.join(unknown)}")
    values = {str(name): _value(f"{key}.{name}", value, num_tasks) for name, value in arguments.items()}
    if "shape" in parameters:
        values.setdefault("shape", num_tasks)
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in values]
    if missing:
        raise MethodError(f"{key}: {path} needs the arguments {', '.join(missing)}; it takes {', '.join(parameters)}")
    try:
        module: nn.Module = cls(**values)
    except (ValueError, TypeError, ImportError) as error:
        raise MethodError(f"{key}: {path}: {error}") from error
    return module


def _value(key: str, value: Any, num_tasks: int) -> Any:
    if isinstance(value, str) and value.startswith("torchjd."):
        return _construct(key, value, {}, num_tasks)
    if isinstance(value, Mapping):
        return _construct(key, str(value.get("target")), value.get("arguments", {}), num_tasks)
    if isinstance(value, Iterable) and not isinstance(value, str | Tensor):
        return torch.tensor(list(value), dtype=torch.float64)
    return value


def _find(key: str, path: str) -> type[nn.Module]:
    room, _, name = path.rpartition(".")
    if room not in _ROOMS:
        raise MethodError(f"{key}={path!r}: a path begins with {' or '.join(_ROOMS)}")
    if name in _OURS:
        raise MethodError(f"{key}={path!r}: its state cannot be saved; take method={_OURS[name]}")
    choices: dict[str, Any] = {
        known: cls
        for known, cls in vars(importlib.import_module(room)).items()
        if inspect.isclass(cls) and issubclass(cls, Aggregator | Weighting | Scalarizer) and not inspect.isabstract(cls)
    }
    if name not in choices or name in ("WeightedAggregator", "GramianWeightedAggregator"):
        raise MethodError(f"{key}={path!r}: {room} has {', '.join(sorted(choices))}")
    found: type[nn.Module] = choices[name]
    return found
