"""Several processes, each with its shard of the batch: gloo on this machine's CPU."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

import mtrl_surgery.jacobian.shared_team as shared_team
from mtrl_surgery import Surgery
from mtrl_surgery.methods.config import MethodError
from tests.library.models import Shared, grads

SHARDS = [slice(0, 6), slice(6, 12)]
TASKS = 3
Results = dict[str, Any]


def shard(model: Shared, rank: int) -> list[Tensor]:
    """The shard's mean losses: their mean over the processes is the whole batch's."""
    return [2 * loss for loss in model.losses(SHARDS[rank])]


def run_case(name: str, case: str, rank: int | None, group: Any) -> Results:
    """Three steps of one case, by one of two processes, or by one process on the whole batch."""
    settings: dict[str, Any] = {"max_jacobian_bytes": 500} if case == "blocks" else {}
    if case == "clipped":
        settings = {"max_norm": 0.1}
    model = Shared()
    if name == "famo every":
        name, settings["compare_every"] = "famo", 1
    surgery = Surgery(name, TASKS, seed=3, process_group=group, **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=case == "scaler")

    def losses() -> list[Tensor]:
        return model.losses() if rank is None else shard(model, rank)

    found: list[Tensor] = []
    for step in range(3):
        optimizer.zero_grad()
        if case in ("features", "features look"):
            rows = slice(None) if rank is None else SHARDS[rank]
            features = model.trunk(model.x[rows])
            scale = 1 if rank is None else 2
            losses_K = [scale * loss for loss in model.losses_from(features, rows)]
            surgery.backward(losses_K, features=features, diagnose=case == "features look")
        elif case == "micro":
            parts = [slice(0, 6), slice(6, 12)] if rank is None else [slice(6 * rank, 6 * rank + 3)]
            last = parts.pop() if rank is None else slice(6 * rank + 3, 6 * rank + 6)
            scale = 1 if rank is None else 2
            for rows in parts:
                surgery.accumulate([scale * loss for loss in model.losses(rows)])
            surgery.backward([scale * loss for loss in model.losses(last)])
        else:
            given: list[Any] = losses()
            if case == "missing" and step == 1:
                given = [*given[:1], None, given[2]] if rank != 0 else [*given[:2], None]
            surgery.backward(given, scaler=scaler, diagnose=case == "look")
        found.append(grads(list(model.parameters())) / scaler.get_scale())
        scaler.step(optimizer)
        scaler.update()
        after: list[Any] = losses()
        if case == "missing" and step == 1:
            after = [*after[:1], None, after[2]] if rank != 0 else [*after[:2], None]
        surgery.observe(after)
    state = {key: value for key, value in surgery.method.state_dict().items()}
    seen = {key: value for key, value in surgery.diagnostics().items() if key.endswith("_KK") or key == "alignment_K"}
    return {"grads": torch.stack(found), "state": state, "seen": seen}


CASES = [
    *((name, "plain") for name in ("ls", "pcgrad", "samgs", "famo", "famo every", "graddrop", "cagrad")),
    *((name, "features") for name in ("ls", "pcgrad", "samgs", "graddrop")),
    ("pcgrad", "blocks"),
    ("famo every", "clipped"),
    ("samgs", "clipped"),
    ("samgs", "micro"),
    *((name, "look") for name in ("famo every", "samgs")),
    *((name, "features look") for name in ("pcgrad", "samgs")),
    ("famo every", "scaler"),
    ("pcgrad", "scaler"),
    ("famo", "missing"),
    ("famo every", "missing"),
    ("samgs", "missing"),
    ("pcgrad", "missing"),
]


def start(rank: int, folder: str, job: Callable[[int, Any], Results], seconds: float) -> None:
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timeout)
    torch.save(job(rank, dist.group.WORLD), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def in_two(folder: Path, job: Callable[[int, Any], Results], seconds: float = 60) -> list[Results]:
    mp.start_processes(start, (str(folder), job, seconds), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def all_cases(rank: int, group: Any) -> Results:
    return {f"{name} {case}": run_case(name, case, rank, group) for name, case in CASES}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    return in_two(tmp_path_factory.mktemp("two"), all_cases)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_two_processes_are_one_with_the_whole_batch(name: str, case: str, two: list[Results]) -> None:
    first, second = (results[f"{name} {case}"] for results in two)
    assert torch.equal(first["grads"], second["grads"]), "every process gets the same bits"
    assert first["state"].keys() == second["state"].keys()
    assert all(torch.equal(first["state"][key], second["state"][key]) for key in first["state"])
    assert first["grads"].abs().amax(1).gt(1e-4).all()
    if case != "missing":
        alone = run_case(name, case, None, None)
        torch.testing.assert_close(first["grads"], alone["grads"], rtol=1e-6, atol=1e-9)
        for key, value in alone["state"].items():
            torch.testing.assert_close(first["state"][key], value, rtol=1e-6, atol=1e-9)
        assert first["seen"].keys() == alone["seen"].keys()
        assert ("alignment_K" in first["seen"]) == ("look" in case)
        for key, value in alone["seen"].items():
            torch.testing.assert_close(first["seen"][key], value, rtol=1e-5, atol=1e-7)


def test_a_task_that_one_process_has_counts_as_that_process_has_it(two: list[Results]) -> None:
    """Step 2 of the cases `missing`: task 0 is in both shards, task 1 in the first, task 2 in the second."""
    model = Shared()
    surgery, optimizer = Surgery("pcgrad", TASKS, seed=3), torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        both = [shard(model, rank) for rank in range(2)]
        means = [(first + second) / 2 for first, second in zip(*both, strict=True)]
        surgery.backward([means[0], both[0][1], both[1][2]] if step == 1 else means)
        wanted = grads(list(model.parameters()))
        torch.testing.assert_close(two[0]["pcgrad missing"]["grads"][step], wanted, rtol=1e-6, atol=1e-9)
        optimizer.step()


def nobody_has_task_1(rank: int, group: Any) -> Results:
    model = Shared()
    surgery = Surgery("pcgrad", TASKS, process_group=group)
    surgery.backward(model.losses())
    model.zero_grad()
    losses = shard(model, rank)
    surgery.backward([losses[0], None, losses[2]])
    return {"grads": grads(list(model.parameters())), "weights": surgery.diagnostics()["weights_K"]}


def test_a_task_that_nobody_has_is_missing(tmp_path: Path) -> None:
    first, second = in_two(tmp_path, nobody_has_task_1)
    model = Shared()
    losses = model.losses()
    Surgery("pcgrad", 2).backward([losses[0], losses[2]], model.shared, [model.own[0], model.own[2]])
    torch.testing.assert_close(first["grads"], grads(list(model.parameters())))
    assert torch.equal(first["grads"], second["grads"])
    assert first["weights"][1] == 0


def overflow_in_process_1(rank: int, group: Any) -> Results:
    found: Results = {}
    for name in ("famo", "pcgrad", "samgs"):
        model = Shared(dtype=torch.float32)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        options = {"compare_every": 1} if name == "famo" else {}
        surgery = Surgery(name, TASKS, process_group=group, **options)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        losses = [loss * (1e38 * 10 if rank == 1 and task == 2 else 1) for task, loss in enumerate(shard(model, rank))]
        surgery.backward(losses, scaler=scaler)
        scaler.step(optimizer)
        scaler.update()
        surgery.observe(losses)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        found[name] = (surgery.skipped, scaler.get_scale(), torch.equal(before, after))
    return found


def test_an_overflow_in_one_process_skips_the_step_in_all(tmp_path: Path) -> None:
    for results in in_two(tmp_path, overflow_in_process_1):
        assert results == dict.fromkeys(("famo", "pcgrad", "samgs"), (1, 2.0**9, True))


def buckets_of_100_bytes(rank: int, group: Any) -> Results:
    calls, before, bytes_ = 0, dist.all_reduce, shared_team.BUCKET_BYTES

    def counted(*arguments: Any, **keywords: Any) -> None:
        nonlocal calls
        calls += 1
        before(*arguments, **keywords)

    dist.all_reduce = counted
    found: Results = {}
    for size in (bytes_, 400):
        shared_team.BUCKET_BYTES, calls, model = size, 0, Shared()
        Surgery("samgs", TASKS, process_group=group).backward(shard(model, rank))
        found[f"calls {size}"] = calls
        found[f"grads {size}"] = grads(list(model.parameters()))
    return {
        "few": found[f"calls {bytes_}"],
        "many": found["calls 400"],
        "same": found[f"grads {bytes_}"].equal(found["grads 400"]),
    }


def test_tensors_travel_together(tmp_path: Path) -> None:
    """Losses, own gradients, the Jacobian: three collectives; and the size of a bucket changes nothing."""
    for results in in_two(tmp_path, buckets_of_100_bytes):
        assert results["few"] == 3
        assert results["many"] > 6
        assert results["same"]


def errors_of_process_1(rank: int, group: Any) -> Results:
    found: Results = {}

    def heard(name: str, step: Callable[[], None]) -> None:
        with pytest.raises(MethodError) as error:
            step()
        found[name] = str(error.value)

    model = Shared()
    surgery = Surgery("pcgrad", TASKS, process_group=group)
    heard("scalars", lambda: surgery.backward(shard(model, rank)[: TASKS - rank]))
    heard(
        "first", lambda: surgery.backward([None if rank == 1 and k == 0 else v for k, v in enumerate(model.losses())])
    )
    surgery.backward(model.losses())  # and all goes on after an error
    other = Shared() if rank == 0 else torch.nn.Module()
    if rank == 1:
        other = Shared()
        other.trunk.append(torch.nn.Linear(6, 6, dtype=torch.float64))
    heard("shapes", lambda: Surgery("pcgrad", TASKS, process_group=group).backward(other.losses()))
    wider = Shared()
    if rank == 1:
        wider.heads[2].append(torch.nn.Linear(1, 1, dtype=torch.float64))
    heard("own", lambda: Surgery("pcgrad", TASKS, process_group=group).backward(wider.losses()))
    rows = slice(0, 4 + rank)
    features = model.trunk(model.x[rows])
    losses = model.losses_from(features, rows)
    heard("features", lambda: Surgery("samgs", TASKS, process_group=group).backward(losses, features=features))
    famo = Surgery("famo", TASKS, process_group=group)
    famo.backward(model.losses())
    heard("observe", lambda: famo.observe([*model.losses()[:2], None]))
    return found


def test_what_one_process_does_wrong_all_hear(tmp_path: Path) -> None:
    first, second = in_two(tmp_path, errors_of_process_1)
    assert second["scalars"] == "2 losses for num_tasks=3: give None for a task that is missing"
    assert first["scalars"] == f"process 1 of 2: {second['scalars']}"
    assert "the tasks [0] are missing" in second["first"] and first["first"].startswith("process 1 of 2: ")
    for results in (first, second):
        assert "the shared parameters have the shapes" in results["shapes"] and "in process 1" in results["shapes"]
        assert "[4, 4, 4] own parameters in process 0 and [4, 4, 6] in process 1" in results["own"]
        assert "the features have the shapes ((4, 6),) in process 0 and ((5, 6),)" in results["features"]
        assert "losses of the tasks [0, 1] out of 3" in results["observe"]


def never_comes(gave_up: Path, rank: int, group: Any) -> Results:
    model = Shared()
    surgery = Surgery("pcgrad", TASKS, process_group=group)
    surgery.backward(shard(model, rank))
    if rank == 1:
        for _ in range(1200):  # busy with something else until the other one has given up
            if gave_up.exists():
                return {"waited in vain": True}
            time.sleep(0.1)
        return {"waited in vain": False}
    with pytest.raises(RuntimeError):
        surgery.backward(shard(model, rank))
    gave_up.touch()
    return {}


def test_a_process_that_waits_in_vain_gives_up_after_the_groups_timeout(tmp_path: Path) -> None:
    _, second = in_two(tmp_path, partial(never_comes, tmp_path / "gave up"), seconds=2)
    assert second["waited in vain"]
