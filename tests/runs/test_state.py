from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from mtrl_surgery.runs.arrays import DTYPES, bytes_needed, pack, read_arrays, unpack, write_arrays
from mtrl_surgery.runs.checkpoint import CheckpointError, CheckpointStore

arrays = st.sampled_from(list(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
numbers = st.integers() | st.floats() | st.booleans() | st.none()
texts = st.text(st.characters(exclude_categories=[]))  # lone surrogates too
keys = texts | st.integers() | st.tuples(st.integers(), st.integers())
states = st.recursive(
    arrays | numbers | texts | st.integers(min_value=10**30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type and bits; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


@given(states)
def test_a_state_survives_packing_and_json(state: Any) -> None:
    arrays, tree = pack(state)
    text = json.dumps(tree, allow_nan=False)  # standard JSON: no NaN in it
    assert same(unpack(arrays, json.loads(text)), state)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(texts, states, max_size=4))
def test_a_state_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    store = CheckpointStore(tmp_path_factory.mktemp("store"), keep=1)
    store.save(0, state)
    found = store.newest()
    assert found is not None and same(found.state, state)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc/ü", min_size=1), arrays, max_size=5))
def test_files_are_what_the_library_reads(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "x.safetensors"
    size, _ = write_arrays(path, content)
    assert size == path.stat().st_size == bytes_needed(content)
    theirs = load_file(path)
    assert theirs.keys() == content.keys()
    assert all(same(theirs[name], content[name]) for name in content)


def test_any_memory_layout_is_stored_by_value(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    content = {"step": base[::2, ::-1], "fortran": np.asfortranarray(base), "big": base.astype(">f4")}
    write_arrays(tmp_path / "x", content)
    found = read_arrays(tmp_path / "x")
    assert all(np.array_equal(found[name], content[name]) for name in content)
    assert all(array.flags.writeable for array in found.values())


def test_numpy_numbers_keep_their_type_and_dict_subclasses_become_dicts() -> None:
    state = {"a": np.float64(0.1), "b": np.bool_(True), "c": OrderedDict(x=np.uint8(3))}
    found = unpack(*pack(state))
    assert type(found["a"]) is np.float64 and type(found["b"]) is np.bool_
    assert type(found["c"]) is dict and type(found["c"]["x"]) is np.uint8


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"actor": [{"w": {1, 2}}]}, r"state/actor/0/w: cannot store a set; choices: dict"),
        ({"a": b"x"}, r"state/a: cannot store a bytes"),
        ({"a": 1j}, r"state/a: cannot store a complex"),
        ({"a": {"b": np.array([None])}}, r"state/a/b: cannot store an array of dtype object; choices: bool"),
        ({"a": np.zeros(2, np.complex128)}, r"state/a: cannot store an array of dtype complex128"),
        ({"a": {frozenset(): 1}}, r"state/a: the key frozenset\(\) is a frozenset"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_path(state: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        pack(state)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"array": "00001/x"}, "'00001/x' is missing"),
        ({"pickle": "x"}, "unknown packed node 'pickle'"),
        ({"dict": {}, "items": []}, "one key"),
    ],
)
def test_a_strange_tree_is_refused(tree: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        unpack({}, tree)


def test_the_formats_own_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="__metadata__"):
        write_arrays(tmp_path / "x", {"__metadata__": np.zeros(1)})
