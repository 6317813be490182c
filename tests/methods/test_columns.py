"""Methods that are shown the Jacobian's columns in two halves, each on its own, do as one that is shown all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_surgery.methods import _common
from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.dbmtl import DbmtlConfig
from mtrl_surgery.methods.graddrop import GraddropConfig
from mtrl_surgery.methods.moco import MocoConfig
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.methods.samgs import SamgsConfig

TASKS, PARAMETERS, CUT = 4, 50, 17
CONFIGS = {
    "samgs": SamgsConfig(gamma=0.93),
    "samgs_rescaled": SamgsConfig(gamma=0.5, rescale="equalised_norm"),
    "graddrop": GraddropConfig(leak=[0.1, 0.0, 0.3, 0.0]),
    "moco": MocoConfig(),
    "moco_libmtl": MocoConfig(gamma=1.0, projection="softmax", normalize="loss"),
    "dbmtl": DbmtlConfig(),
}


class AllReduce:
    """Sums a tensor over threads that all call it the same number of times."""

    def __init__(self, parts: int) -> None:
        self._barrier = threading.Barrier(parts, timeout=30)
        self._given: list[Tensor] = [torch.zeros(())] * parts

    def of(self, place: int) -> Callable[[Tensor], Tensor]:
        def total(part: Tensor) -> Tensor:
            self._given[place] = part
            self._barrier.wait()
            added = self._given[0] + self._given[1]
            self._barrier.wait()
            return added

        return total


def make(config: MethodConfig) -> JacobianMethod[MethodConfig]:
    method = make_method(config, TASKS, 3)
    assert isinstance(method, JacobianMethod)
    return method


def lengths_apart(config: MethodConfig, together: bool) -> list[float]:
    """How far two halves are from the whole, relative, at each of some steps; `together` with what they share."""
    whole, halves, reduce = make(config), (make(config), make(config)), AllReduce(2)
    parts = (slice(0, CUT), slice(CUT, PARAMETERS))
    for place, half in enumerate(halves):
        if together:
            half.set_column_shard(parts[place].start, reduce.of(place))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(6):
        matrix_KP = torch.as_tensor(rng.standard_normal((TASKS, PARAMETERS)) * rng.uniform(0.6, 1.8, (TASKS, 1)))
        losses_K, gramian_KK = torch.as_tensor(rng.random(TASKS) + 0.1), matrix_KP @ matrix_KP.T
        wanted_P = whole.direction(matrix_KP, gramian_KK, losses_K)
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(half.direction, matrix_KP[:, part], gramian_KK, losses_K)
                for half, part in zip(halves, parts, strict=True)
            ]
            got_P = torch.cat([call.result(timeout=60) for call in calls])
        found.append(float((got_P - wanted_P).norm() / wanted_P.norm()))
        if together:
            for half in halves:
                torch.testing.assert_close(half.diagnostics()["weights_K"], whole.diagnostics()["weights_K"])
    return found


@pytest.mark.parametrize("label", CONFIGS)
def test_two_halves_are_the_whole(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: 10 * TASKS)  # the cut is in the middle of a chunk
    assert max(lengths_apart(CONFIGS[label], together=True)) < 1e-12


@pytest.mark.parametrize("label", sorted(CONFIGS.keys() - {"samgs"}))
def test_halves_that_share_nothing_are_not(label: str) -> None:
    """The guard of the test above; of samgs without `rescale` only the log sums over columns."""
    assert max(lengths_apart(CONFIGS[label], together=False)) > 1e-3


@pytest.mark.parametrize("elements", [1, 7, 12, 30, 10**6])
def test_chunks_cover_the_columns_in_order(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "chunk_elements", lambda device: elements)
    matrix_KP = torch.arange(33).view(3, 11)
    seen = []
    for part, room_KC in _common.column_chunks(matrix_KP):
        assert room_KC.shape == matrix_KP[:, part].shape
        assert room_KC.numel() <= max(elements, 3)
        seen.append(matrix_KP[:, part])
    assert torch.equal(torch.cat(seen, dim=1), matrix_KP)


@pytest.mark.parametrize("label", ["moco", "dbmtl", "samgs"])
def test_a_method_belongs_to_one_network(label: str) -> None:
    method = make(CONFIGS[label])
    ones_KK, ones_K = torch.eye(TASKS), torch.ones(TASKS)
    method.direction(torch.ones(TASKS, 5), ones_KK, ones_K)
    with pytest.raises(MethodError, match=rf"\({TASKS}, 5\), got \({TASKS}, 6\)"):
        method.direction(torch.ones(TASKS, 6), ones_KK, ones_K)
