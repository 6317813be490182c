"""TorchJD objects: made from import paths and plain arguments, and their memory in plain values and tensors."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, GradVacWeighting, PCDWeighting, Weighting
from torchjd.linalg import QuadprogProjector
from torchjd.scalarization import Scalarizer

from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.torchjd.options import DualprojConfig, NamedConfig, TorchjdConfig

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


_ON_HOST = (GradVacWeighting, PCDWeighting)
"""Weightings that work on the CPU and keep their memory there."""
_MODULE_INTERNALS = frozenset(vars(nn.Module()))


def capture(module: nn.Module) -> dict[str, Any]:
    """A copy of everything in the object that is memory, in plain values and tensors."""
    values = {path: _plain(value) for path, _, _, _, value in _slots(module) if _is_memory(value)}
    return {"class": type(module).__name__, "values": values}


def restore(name: str, module: nn.Module, state: Any) -> None:
    """Puts back what `capture` gave.

    Raises:
        MethodError: for the state of another class; nothing is changed.
    """
    own, slots = type(module).__name__, {path: (owner, key, value) for path, _, owner, key, value in _slots(module)}
    if state["class"] != own or not state["values"].keys() <= slots.keys():
        raise MethodError(f"{name}: state of another method: {state['class']}, expected {own}")
    values = {path: _read(value) for path, value in state["values"].items()}
    for path, value in values.items():
        old = slots[path][2]
        if isinstance(old, nn.Parameter) and old.shape != value.shape:
            raise MethodError(f"{name}: state {path!r} has shape {tuple(value.shape)}, expected {tuple(old.shape)}")
    for path, value in values.items():
        owner, key, old = slots[path]
        owner[key] = nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value


def move(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Moves the object to a device, and the constants that it was made with to the dtype of what it will see."""
    for _, part, owner, key, value in _slots(module):
        home = torch.device("cpu") if isinstance(part, _ON_HOST) else device
        if isinstance(value, nn.Parameter):
            value.data = value.data.to(home)
        elif isinstance(value, Tensor):
            constant = owner is vars(part) and value.is_floating_point()
            owner[key] = value.to(device=home, dtype=dtype if constant else value.dtype)
        elif isinstance(value, tuple):  # what some of them know their memory's place by
            owner[key] = tuple(home if isinstance(item, torch.device) else item for item in value)


def _slots(module: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, Any], str, Any]]:
    """(path, the part, the dictionary in it that holds the value, its key, the value) of all that may be memory."""
    for prefix, part in module.named_modules():
        for owner in (part._parameters, part._buffers, vars(part)):
            for key, value in list(owner.items()):
                if owner is not vars(part) or key not in _MODULE_INTERNALS:
                    yield f"{prefix}.{key}".lstrip("."), part, owner, key, value


def _is_memory(value: Any) -> bool:
    """Whether it is, and no function or solver."""
    if isinstance(value, list | tuple):
        return all(map(_is_memory, value))
    return value is None or isinstance(value, bool | int | float | str | Tensor | torch.dtype | torch.device)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.dtype | torch.device):
        return {type(value).__name__: str(value).removeprefix("torch.")}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def _read(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return getattr(torch, value["dtype"]) if "dtype" in value else torch.device(value["device"])
    return type(value)(map(_read, value)) if isinstance(value, list | tuple) else value
