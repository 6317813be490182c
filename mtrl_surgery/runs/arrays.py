"""Named numpy arrays in a safetensors file, streamed and hashed on the way to the disk.

The library's own writer serialises to one buffer or hides the disk's error behind its own; the format is a
length, a JSON header and the bytes, so writing takes a few lines. Reading is the library's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mtrl_surgery.runs.durable import write_hashed
from mtrl_surgery.runs.errors import CheckpointError

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
"""numpy name of every data type that a file can hold -> its safetensors name."""

_ALIGNMENT = 8
_RESERVED = "__metadata__"


def check_storable(array: Array, name: str) -> None:
    """Refuses an array whose data type the file format lacks.

    Raises:
        CheckpointError: Names the array, its data type and the choices.
    """
    if array.dtype.name not in DTYPES:
        raise CheckpointError(f"{name}: cannot store an array of dtype {array.dtype}; choices: {', '.join(DTYPES)}")


def bytes_needed(arrays: Mapping[str, Array]) -> int:
    """How many bytes the file of these arrays will have."""
    return len(_header(_ordered(arrays))) + sum(array.nbytes for array in arrays.values())


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> tuple[int, str]:
    """Writes a new file of arrays and flushes it to disk; returns its size in bytes and its sha256.

    Raises:
        CheckpointError: A data type or a name that the format lacks.
        OSError: The disk's own error.
    """
    return write_hashed(path, _parts(_ordered(arrays)))


def read_arrays(path: Path) -> dict[str, Array]:
    """Reads a file of arrays; they are writable and own their memory.

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
        entries[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [offset, end],
        }
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
