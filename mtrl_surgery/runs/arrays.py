"""A nested state as plain JSON and named arrays, in a safetensors file that is hashed on its way to the disk.

Nothing is ever pickled or unpickled. The library's own writer serialises to one buffer or hides the disk's error behind
its own; the format is a length, a JSON header and the bytes, so writing takes a few lines. Reading is the library's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mtrl_surgery.runs.durable import write_hashed
from mtrl_surgery.runs.reading import CheckpointError

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = {
    "bool": "BOOL",
    "complex64": "C64",
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
"""numpy name of every data type that a file can hold -> its safetensors name."""

_ALIGNMENT = 8
_RESERVED = "__metadata__"


def check_storable(array: Array, name: str) -> None:
    """Raise CheckpointError for an array whose data type the file format lacks."""
    if array.dtype.name not in DTYPES:
        raise CheckpointError(f"{name}: cannot store an array of dtype {array.dtype}; choices: {', '.join(DTYPES)}")


def bytes_needed(arrays: Mapping[str, Array]) -> int:
    """The size of the file of these arrays."""
    return len(_header(_ordered(arrays))) + sum(array.nbytes for array in arrays.values())


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> tuple[int, str]:
    """Write a new file of arrays and flush it to disk; return its size in bytes and its sha256.

    Raises:
        CheckpointError: A data type or a name that the format lacks.
        OSError: The disk's own error.
    """
    return write_hashed(path, _parts(_ordered(arrays)))


def read_arrays(path: Path) -> dict[str, Array]:
    """Read a file of arrays; they are writable and own their memory.

    Raises:
        CheckpointError: The file is missing or no whole safetensors file.
    """
    try:
        arrays: dict[str, Array] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    return arrays


def _ordered(arrays: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """Wide data types first, as the library has it: every array starts at a multiple of its width."""
    for name, array in arrays.items():
        check_storable(array, name)
        if name == _RESERVED:
            raise CheckpointError(f"an array cannot be called {_RESERVED!r}: the file format uses that name")
    return sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))


def _header(items: list[tuple[str, Array]]) -> bytes:
    entries, offset = {}, 0
    for name, array in items:
        end = offset + array.nbytes
        entries[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parts(items: list[tuple[str, Array]]) -> Iterator[bytes | memoryview]:
    yield _header(items)
    for _, array in items:
        if array.size:  # a memoryview cannot be cast over a zero in its shape
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            yield little.reshape(-1).view(np.uint8).data


_STORABLE = "dict, list, tuple, str, int, float, bool, None, numpy arrays and numpy numbers"
_EXACT_IN_EVERY_JSON = 2**63


def pack(state: Any) -> tuple[dict[str, Array], Any]:
    """Split a nested state into arrays and a tree that JSON can hold.

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
    """Put together what `pack` took apart.

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
