"""The reader of .npy files: what NumPy writes it reads, and nothing that a stranger writes harms it."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from experiments_vision.data.dense import read_npy
from experiments_vision.errors import VisionError

KINDS = st.one_of(npst.floating_dtypes(endianness="?"), npst.integer_dtypes(endianness="?"), npst.boolean_dtypes())
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@SHARED
@given(array=npst.arrays(KINDS, npst.array_shapes(min_dims=0, min_side=0, max_side=5)), fortran=st.booleans())
def test_reads_what_numpy_writes(tmp_path: Path, array: np.ndarray, fortran: bool) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    found = read_npy(path)
    assert found.dtype == array.dtype and found.shape == np.load(path).shape
    assert found.tobytes() == np.load(path).tobytes()


@settings(SHARED, max_examples=150)
@given(data=st.data())
def test_damaged_bytes_make_an_error_that_names_the_file_or_an_array(tmp_path: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(12, dtype=np.float32).reshape(3, 4))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 100))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.npy"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        assert read_npy(path).dtype.kind in "biuf"
    except VisionError as error:
        assert str(error).startswith(f"{path}: ")


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    tracemalloc.start()
    with pytest.raises(VisionError, match="damaged or cut short"):
        read_npy(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (object, "Python objects"),
        ("U3", "wrong dtype: <U3"),
        ("M8[s]", "wrong dtype"),
        ("c8", "wrong dtype: complex"),
    ],
)
def test_what_is_no_number(tmp_path: Path, dtype: str, message: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3).astype(dtype), allow_pickle=True)
    with pytest.raises(VisionError, match=message):
        read_npy(tmp_path / "a.npy")


def test_archives_and_folders_and_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros(3))
    os.rename(tmp_path / "a.npz", tmp_path / "a.npy")
    (tmp_path / "b.npy").mkdir()
    for name, message in (("a", "damaged"), ("b", "cannot be read: Is a directory"), ("c", "missing")):
        with pytest.raises(VisionError, match=f"{name}.npy: {message}"):
            read_npy(tmp_path / f"{name}.npy")
