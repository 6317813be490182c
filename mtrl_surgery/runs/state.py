"""A nested state as plain JSON and named arrays, and back. Nothing is ever pickled or unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtrl_surgery.runs.arrays import Array, check_storable
from mtrl_surgery.runs.errors import CheckpointError

_STORABLE = "dict, list, tuple, str, int, float, bool, None, numpy arrays and numpy numbers"
_EXACT_IN_EVERY_JSON = 2**63


def pack(state: Any) -> tuple[dict[str, Array], Any]:
    """Splits a nested state into arrays and a tree that JSON can hold.

    Args:
        state: Dicts (keys: str, int, float, bool, None, tuples of these), lists, tuples, strings, numbers,
            None, numpy arrays of any shape and storable dtype, numpy numbers. Types are kept, but a subclass
            of dict comes back as a dict.

    Returns:
        The arrays by unique names that end in their path inside the state, and the tree.

    Raises:
        CheckpointError: Anything else, with its path.
    """
    arrays: dict[str, Array] = {}
    return arrays, _pack(state, "", arrays)


def unpack(arrays: Mapping[str, Array], tree: Any) -> Any:
    """Puts together what `pack` took apart.

    Raises:
        CheckpointError: The tree is not one of ours, or names an array that is not there.
    """
    if isinstance(tree, list):
        return [unpack(arrays, item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise CheckpointError(f"a packed node has one key, this one has {sorted(tree)}")
    ((kind, body),) = tree.items()
    try:
        return _node(arrays, kind, body)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"a packed {kind!r} is none of ours: {error}") from error


def _node(arrays: Mapping[str, Array], kind: str, body: Any) -> Any:
    match kind:
        case "dict":
            return {key: unpack(arrays, value) for key, value in body.items()}
        case "items":
            return {unpack(arrays, key): unpack(arrays, value) for key, value in body}
        case "tuple":
            return tuple(unpack(arrays, item) for item in body)
        case "int":
            return int(body, 16)
        case "float":
            return float(body)
        case "array" | "number":
            if body not in arrays:
                raise CheckpointError(f"the array {body!r} is missing")
            return arrays[body] if kind == "array" else arrays[body][()]
    raise CheckpointError(f"unknown packed node {kind!r}")


def _pack(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _pack_array(value, path, arrays)
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        # hexadecimal for the large: other readers round them, and Python limits decimal digits
        return value if abs(value) < _EXACT_IN_EVERY_JSON else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) is list:
        return [_pack(item, f"{path}/{index}", arrays) for index, item in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [_pack(item, f"{path}/{index}", arrays) for index, item in enumerate(value)]}
    if isinstance(value, dict):
        if all(type(key) is str for key in value):
            return {"dict": {key: _pack(item, f"{path}/{key}", arrays) for key, item in value.items()}}
        return {"items": [[_pack_key(key, path), _pack(item, f"{path}/{key}", arrays)] for key, item in value.items()]}
    raise CheckpointError(f"state{path}: cannot store a {type(value).__qualname__}; choices: {_STORABLE}")


def _pack_array(value: Array | np.generic, path: str, arrays: dict[str, Array]) -> dict[str, str]:
    array = np.asarray(value)
    check_storable(array, f"state{path}")
    # the count keeps names apart whatever the keys are; lone surrogates are no UTF-8
    name = f"{len(arrays):05d}{path}".encode("utf-8", "backslashreplace").decode()
    arrays[name] = array
    return {"array" if isinstance(value, np.ndarray) else "number": name}


def _pack_key(key: Any, path: str) -> Any:
    parts = key if type(key) is tuple else (key,)
    if not all(part is None or type(part) in (str, int, float, bool) for part in parts):
        kinds = "str, int, float, bool, None, tuples of these"
        raise CheckpointError(f"state{path}: the key {key!r} is a {type(key).__qualname__}; choices: {kinds}")
    return _pack(key, path, {})
