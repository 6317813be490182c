"""What learners exchange, in real processes that are joined by gloo."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from mtrl_surgery.jacobian.sharding import Sharded, Whole, columns_of

SIZE, TASKS, PARAMETERS = 3, 4, 11  # 11 columns in slices of 4, 4 and 3


@given(size=st.integers(1, 9), parameters=st.integers(0, 200))
def test_slices_cover_every_column_once_and_in_order(size: int, parameters: int) -> None:
    slices = [columns_of(rank, size, parameters) for rank in range(size)]
    assert [column for part in slices for column in range(parameters)[part]] == list(range(parameters))
    assert slices[0] == slice(0, -(-parameters // size)), "the first is the widest"


def rows_of(rank: int, columns: int = PARAMETERS, call: int = 0) -> torch.Tensor:
    return torch.randn(TASKS, columns, generator=torch.Generator().manual_seed(100 * call + rank), dtype=torch.float64)


def exchange(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=SIZE)
    assert dist.group.WORLD is not None
    sharding = Sharded(dist.group.WORLD)
    found: dict[str, Any] = {"size": (sharding.size, sharding.rank)}
    for call in range(2):  # the second finds the first one's memory
        own = sharding.scatter(rows_of(rank, call=call))
        found[f"scatter{call}"] = own.clone()
        found[f"gather{call}"] = sharding.gather(own, PARAMETERS)
    found["vector"] = sharding.scatter(rows_of(rank)[0]).clone()
    found["norm"] = sharding.norm(found["vector"])
    found["mean"], found["total"] = sharding.mean(rows_of(rank)), sharding.total(rows_of(rank))
    odd = sharding.scatter(torch.ones(TASKS, 4))  # slices of 2, 2 and none
    found["odd"] = tuple(odd.shape), sharding.gather(odd, 4)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of three processes got."""
    folder: Path = tmp_path_factory.mktemp("group")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=exchange, args=(rank, str(folder))) for rank in range(SIZE)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


@pytest.mark.parametrize("call", range(2))
def test_scatter_gives_each_the_mean_of_its_columns(found: list[dict[str, Any]], call: int) -> None:
    mean_KP = sum(rows_of(rank, call=call) for rank in range(SIZE)) / SIZE
    for rank, mine in enumerate(found):
        torch.testing.assert_close(mine[f"scatter{call}"], mean_KP[:, columns_of(rank, SIZE, PARAMETERS)])
        torch.testing.assert_close(mine[f"gather{call}"], mean_KP)


def test_vectors_are_scattered_like_rows(found: list[dict[str, Any]]) -> None:
    mean_P = sum(rows_of(rank)[0] for rank in range(SIZE)) / SIZE
    torch.testing.assert_close(torch.cat([mine["vector"] for mine in found]), mean_P)
    torch.testing.assert_close(found[0]["norm"], mean_P.norm())


def test_sums_are_the_same_bits_everywhere(found: list[dict[str, Any]]) -> None:
    for key in ("mean", "total", "norm", "gather0", "gather1"):
        assert all(torch.equal(mine[key], found[0][key]) for mine in found), key
    torch.testing.assert_close(found[0]["total"], sum(rows_of(rank) for rank in range(SIZE)))


def test_a_learner_may_be_left_without_columns(found: list[dict[str, Any]]) -> None:
    assert [mine["odd"][0] for mine in found] == [(TASKS, 2), (TASKS, 2), (TASKS, 0)]
    assert torch.equal(found[2]["odd"][1], torch.ones(TASKS, 4))


def test_alone_nothing_is_copied() -> None:
    alone, rows = Whole(), rows_of(0)
    assert alone.scatter(rows) is rows and alone.gather(rows, PARAMETERS) is rows
    assert alone.total(rows) is rows and alone.mean(rows) is rows
    assert rows[:, alone.columns(PARAMETERS)].shape == rows.shape
