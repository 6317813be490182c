"""Sums of maps: what is left out of a mean, what one task or no map gives, and where a checkpoint's sums lie."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import MapSums, conflict_map
from mtrl_surgery.runs.jsonl import JsonlWriter

TASKS = ("a", "b", "c")


def seen(*gradients: tuple[float, float], device: str = "cpu") -> dict[str, Tensor]:
    jacobian_KP = torch.tensor(gradients, device=device)
    return conflict_map(jacobian_KP @ jacobian_KP.T) | {"mean_cosine": torch.ones(())}


def test_a_pair_that_is_not_finite_is_left_out_of_its_look(tmp_path: Path) -> None:
    sums = MapSums(TASKS)
    sums.add({"trunk": seen((1, 0), (0, 2), (-3, 0))})
    sums.add({"trunk": seen((1, 0), (math.inf, 0), (0, 1))})
    (row,) = sums.rows(7)
    assert {key: row[key] for key in ("network", "update", "tasks", "looks")} == {
        "network": "trunk",
        "update": 7,
        "tasks": list(TASKS),
        "looks": 2,
    }
    assert row["cosine"] == [0, -0.5, 0] and row["conflict"] == [0, 0.5, 0]
    assert row["similarity"] == [0.8, 0.8, 0.9231], "a and c: the mean of 0.6 and 1"
    sums.add({"trunk": seen((1, 0), (math.nan, 0), (0, 1))})
    with_gaps = sums.rows(8)[0]
    writer = JsonlWriter(tmp_path / "conflicts.jsonl")
    writer.write(with_gaps)
    assert json.loads(writer.path.read_text())["cosine"] == [None, 0, None]


def test_networks_are_apart_and_a_row_starts_anew() -> None:
    sums = MapSums(TASKS)
    assert sums.rows(1) == []
    sums.add({"one": seen((1, 0), (1, 0), (1, 0)), "two": seen((1, 0), (-1, 0), (1, 0)), "three": {}})
    assert [(row["network"], row["cosine"]) for row in sums.rows(1)] == [("one", [1, 1, 1]), ("two", [-1, 1, -1])]
    assert sums.rows(2) == []
    alone = MapSums(("a",))
    alone.add({"one": seen((1, 0))})
    assert alone.rows(1) == []


@pytest.mark.gpu
def test_a_look_waits_for_no_device_and_goes_on_from_a_checkpoint_on_the_cpu() -> None:
    pairs = [((1.0, 0.0), (0.0, 2.0), (-3.0, 0.0)), ((1.0, 1.0), (0.0, 2.0), (3.0, 0.0))]
    looks = [seen(*gradients, device="cuda") for gradients in pairs]
    whole, before, after = MapSums(TASKS), MapSums(TASKS), MapSums(TASKS)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for look in looks:
            whole.add({"one": look})
        before.add({"one": looks[0]})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state = before.state_dict()
    state["sums"] = {name: {key: value.cpu() for key, value in maps.items()} for name, maps in state["sums"].items()}
    after.load_state_dict(state)
    after.add({"one": looks[1]})
    assert after.rows(1) == whole.rows(1)
