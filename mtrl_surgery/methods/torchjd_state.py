"""The memory of a TorchJD object as tensors, whatever it keeps it in: buffers, parameters or plain attributes.

Plain values (numbers, null, a dtype, a device, lists of them) are written as JSON into one tensor of bytes; tensors
stand beside it under their path, and JSON says where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import GradVacWeighting, PCDWeighting

from mtrl_surgery.methods.config import MethodError

_INDEX = "torchjd"
_ON_HOST = (GradVacWeighting, PCDWeighting)
"""Weightings that work on the CPU and keep their memory there."""
_MODULE_INTERNALS = frozenset(vars(nn.Module()))


def capture(module: nn.Module) -> dict[str, Tensor]:
    """A copy of everything in the object that can be written down."""
    tensors: dict[str, Tensor] = {}
    values = {path: _encode(path, value, tensors) for path, _, _, _, value in _slots(module)}
    index = json.dumps({"class": type(module).__name__, "values": {k: v for k, v in values.items() if v is not None}})
    return {_INDEX: torch.tensor(list(index.encode()), dtype=torch.uint8), **tensors}


def restore(name: str, module: nn.Module, state: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts back what `capture` wrote.

    Raises:
        MethodError: for the state of another class; nothing is changed.
    """
    index = json.loads(bytes(state[_INDEX].tolist())) if _INDEX in state else {"class": None, "values": {}}
    slots = {path: (part, owner, key) for path, part, owner, key, _ in _slots(module)}
    if index["class"] != type(module).__name__ or not index["values"].keys() <= slots.keys():
        raise MethodError(f"{name}: state of another method: {index['class']}, expected {type(module).__name__}")
    values = {path: _decode(value, state, _home(slots[path][0], device)) for path, value in index["values"].items()}
    for path, value in values.items():
        _, owner, key = slots[path]
        if isinstance(old := owner.get(key), nn.Parameter):
            if old.shape != value.shape:
                raise MethodError(f"{name}: state {path!r} has shape {tuple(value.shape)}, expected {tuple(old.shape)}")
            value = nn.Parameter(value, requires_grad=old.requires_grad)
        owner[key] = value


def move(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Moves the object to a device, and the constants that it was made with to the dtype of what it will see."""
    for _, part, owner, key, value in _slots(module):
        if isinstance(value, nn.Parameter):
            value.data = value.data.to(device)
        elif isinstance(value, Tensor):
            constant = owner is vars(part) and value.is_floating_point()
            owner[key] = value.to(device=_home(part, device), dtype=dtype if constant else value.dtype)


def _home(part: nn.Module, device: torch.device) -> torch.device:
    return torch.device("cpu") if isinstance(part, _ON_HOST) else device


def _slots(module: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, Any], str, Any]]:
    """(path, the part, the dictionary in it that holds the value, its key, the value) of all that may be memory."""
    for prefix, part in module.named_modules():
        for owner in (part._parameters, part._buffers, vars(part)):
            for key, value in list(owner.items()):
                if owner is not vars(part) or key not in _MODULE_INTERNALS:
                    yield f"{prefix}.{key}".lstrip("."), part, owner, key, value


def _encode(path: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value for JSON, its tensors put aside; None for what isn't memory (a function, a solver)."""
    if value is None or isinstance(value, bool | int | float | str):
        return ["plain", value]
    if isinstance(value, Tensor):
        tensors[path] = value.detach().clone()
        return ["tensor", path]
    if isinstance(value, torch.dtype):
        return ["dtype", str(value).removeprefix("torch.")]
    if isinstance(value, torch.device):
        return ["device", None]
    if isinstance(value, list | tuple):
        parts = [_encode(f"{path}.{i}", part, tensors) for i, part in enumerate(value)]
        return None if None in parts else [type(value).__name__, parts]
    return None


def _decode(coded: Any, state: Mapping[str, Tensor], device: torch.device) -> Any:
    kind, value = coded
    if kind == "tensor":
        return state[value].detach().to(device, copy=True)
    if kind == "dtype":
        return getattr(torch, value)
    if kind == "device":
        return device
    if kind in ("list", "tuple"):
        parts = [_decode(part, state, device) for part in value]
        return parts if kind == "list" else tuple(parts)
    return value
