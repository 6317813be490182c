"""Reads .npy files that strangers wrote: numbers only, nothing unpickled, nothing larger than the file says."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from experiments_vision.errors import VisionError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array in a file.

    Raises:
        VisionError: with the path, if the file is missing, damaged, cut short, or holds anything but real numbers.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except FileNotFoundError as error:
        raise VisionError(f"{path}: missing") from error
    except OSError as error:
        raise VisionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _Damaged as error:
        raise VisionError(f"{path}: {error}") from error.__cause__


class _Damaged(Exception):
    """What is wrong with the bytes of a file."""


def _read(file: BinaryIO) -> npt.NDArray[Any]:
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = _HEADERS[version](file)
    except Exception as error:  # a damaged header can fail anywhere in NumPy's parser
        raise _Damaged("damaged: it does not begin as a .npy file of numbers does") from error
    if dtype.kind not in "biuf":
        pickled = "pickled objects, which are never loaded" if dtype.hasobject else f"{dtype}"
        raise _Damaged(f"wrong dtype: {pickled}; expected numbers")
    if any(size < 0 for size in shape):
        raise _Damaged(f"damaged: shape {shape}")
    count = math.prod(shape)
    expected, found = count * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
    if found != expected:  # before anything is allocated
        problem = "cut short" if found < expected else "damaged"
        raise _Damaged(f"{problem}: {found:,} bytes of data; shape {shape} of {dtype} takes {expected:,}")
    data = np.fromfile(file, dtype=dtype, count=count)
    return data.reshape(shape, order="F" if fortran else "C")
