"""The library entry: micro-batches, mixed precision, features, missing tasks, clipping, saved state, errors."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import mtrl_surgery
from mtrl_surgery import Surgery
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.famo import FamoConfig
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from mtrl_surgery.tensors import NonFiniteError
from tests.library.models import Shared, grads, loop_jacobian

OURS = sorted(name for name, entry in METHODS.items() if entry.origin == "ours")
EVERY = FamoConfig(compare_every=1)  # shown the losses after every step
MIXED = ["ls", "famo", pytest.param(EVERY, id="famo-every"), "pcgrad", "cagrad", "samgs"]
WITH_EVERY = [*OURS, pytest.param(EVERY, id="famo-every")]
Named = str | MethodConfig


def all_grads(model: nn.Module) -> Tensor:
    return grads(list(model.parameters()))


def run(name: Named, steps: int = 3, model: Shared | None = None, call: Any = None, **settings: Any) -> Tensor:
    """The parameters after some steps of Adam."""
    model = model or Shared()
    surgery = Surgery(name, num_tasks=3, seed=1, **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (call or (lambda s, m: s.backward(m.losses())))(surgery, model)
        optimizer.step()
        surgery.observe(model.losses())
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_importing_the_package_does_not_import_torch() -> None:
    there = "assert ('torch' in sys.modules) is"
    code = f"import sys, mtrl_surgery; {there} False; mtrl_surgery.Surgery; {there} True"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="Surgerie"):
        _ = mtrl_surgery.Surgerie


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("settings", [{"max_jacobian_bytes": 500}, {"max_jacobian_bytes": 1}])
def test_parts_of_the_jacobian_change_nothing(name: Named, settings: dict[str, int]) -> None:
    torch.testing.assert_close(run(name, **settings), run(name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WITH_EVERY)
def test_micro_batches_are_one_big_batch(name: Named) -> None:
    def in_three(surgery: Surgery, model: Shared) -> None:
        surgery.accumulate(model.losses(slice(0, 5)))
        surgery.accumulate(model.losses(slice(5, 8)))
        surgery.backward(model.losses(slice(8, 12)))

    torch.testing.assert_close(run(name, call=in_three), run(name), rtol=1e-7, atol=1e-7)


def test_a_loader_for_each_task() -> None:
    """One task a micro-batch: together they are a batch with every task."""

    def one_by_one(surgery: Surgery, model: Shared) -> None:
        for task in range(3):
            losses = [loss if k == task else None for k, loss in enumerate(model.losses())]
            step = surgery.backward if task == 2 else surgery.accumulate
            step(losses, model.shared, model.own)

    torch.testing.assert_close(run("cagrad", call=one_by_one), run("cagrad"), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("micro", [False, True])
def test_a_scaler_changes_nothing(name: Named, micro: bool) -> None:
    model, plain = Shared(dtype=torch.float32), Shared(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    surgery, other = (Surgery(name, num_tasks=3, max_norm=0.1) for _ in range(2))
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.05) for m in (model, plain)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        if micro:
            surgery.accumulate(model.losses(slice(0, 6)), scaler=scaler)
            surgery.backward(model.losses(slice(6, 12)), scaler=scaler)
        else:
            surgery.backward(model.losses(), scaler=scaler)
        other.backward(plain.losses())
        torch.testing.assert_close(all_grads(model) / scaler.get_scale(), all_grads(plain), rtol=1e-4, atol=1e-5)
        scaler.step(optimizers[0])
        scaler.update()
        optimizers[1].step()
        surgery.observe(model.losses())
        other.observe(plain.losses())
    torch.testing.assert_close(*(torch.cat([p.flatten() for p in m.parameters()]) for m in (model, plain)))


@pytest.mark.parametrize("name", MIXED)
def test_an_overflow_skips_the_step_and_never_meets_the_method(name: Named) -> None:
    model = Shared(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    surgery = Surgery(name, num_tasks=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    surgery.backward(model.losses(), scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    surgery.observe(model.losses())
    optimizer.zero_grad()
    before = deepcopy(surgery.method.state_dict())
    parameters = all_parameters(model)
    huge = [loss * 1e38 * 10 for loss in model.losses()]
    surgery.backward(huge, scaler=scaler)
    assert surgery.skipped == 1
    scaler.step(optimizer)
    scaler.update()
    surgery.observe(huge)
    assert scaler.get_scale() == 2.0**9
    assert torch.equal(all_parameters(model), parameters)
    after = surgery.method.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def all_parameters(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_have_a_float32_jacobian(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 4, dtype=dtype), [nn.Linear(4, 1, dtype=dtype) for _ in range(2)]
    seen: list[torch.dtype] = []
    method = make_method(find_method("samgs").config(), 2, seed=0)
    solve = method.solve
    method.solve = lambda jacobian, *rest: seen.append(jacobian.dtype) or solve(jacobian, *rest)  # type: ignore[method-assign]
    features = trunk(torch.ones(2, 3, dtype=dtype))
    Surgery(method).backward([head(features).float().square().mean() for head in heads])
    assert seen == [torch.float32]
    assert trunk.weight.grad is not None and trunk.weight.grad.dtype == dtype
    for name in ("ls", "pcgrad"):
        features = trunk(torch.ones(2, 3, dtype=dtype))
        Surgery(name, 2).backward([head(features).square().mean() for head in heads])


@pytest.mark.parametrize("name", WITH_EVERY)
def test_a_missing_task_is_as_though_it_did_not_exist(name: Named) -> None:
    """After one full batch, a batch without task 1 moves nothing of it but its rows' siblings."""
    model = Shared()
    surgery = Surgery(name, num_tasks=3, seed=2)
    surgery.backward(model.losses())
    surgery.observe(model.losses())
    before = deepcopy(surgery.method.state_dict())
    model.zero_grad()
    losses = model.losses()
    surgery.backward([losses[0], None, losses[2]])
    assert grads(model.own[1]).eq(0).all()
    assert surgery.diagnostics()["weights_K"][1] == 0
    surgery.observe([losses[0], None, losses[2]])
    for key, value in surgery.method.state_dict().items():
        if surgery.method.state_axes.get(key, ())[:1] == ("task",):
            assert torch.equal(value[1], before[key][1]), key


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "ls"])
def test_two_tasks_out_of_three_are_two_tasks(name: str) -> None:
    model, small = Shared(), Shared()
    losses = model.losses()
    Surgery(name, num_tasks=3).backward([losses[0], None, losses[2]], model.shared, model.own)
    losses = small.losses()
    Surgery(name, num_tasks=2).backward([losses[0], losses[2]], small.shared, [small.own[0], small.own[2]])
    torch.testing.assert_close(all_grads(model), all_grads(small))


def test_grad_is_added_to_and_the_direction_clipped() -> None:
    model = Shared()
    surgery = Surgery("cagrad", num_tasks=3, max_norm=1e-3)
    surgery.backward(model.losses())
    torch.testing.assert_close(grads(model.shared).norm(), torch.tensor(1e-3, dtype=torch.float64), rtol=1e-2, atol=0)
    assert surgery.diagnostics()["direction_norm"] > 1e-3
    once = all_grads(model)
    surgery.backward(model.losses())
    torch.testing.assert_close(all_grads(model), 2 * once)


@pytest.mark.parametrize("name", ["ls", "pcgrad", "samgs"])
@pytest.mark.parametrize("before", [False, True])
def test_hooks_are_called_as_by_a_backward_pass(name: str, before: bool) -> None:
    model, seen = Shared(), list[Tensor]()
    if before:
        Surgery(name, 3).backward(model.losses())
    parameters = [*model.shared, *(p for group in model.own for p in group)]
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(seen.append)
    Surgery(name, 3).backward(model.losses())
    assert sorted(map(id, seen)) == sorted(map(id, parameters))


def test_a_hook_where_the_heads_begin_acts_once() -> None:
    for name, diagnose in (("ls", False), ("ls", True), ("pcgrad", False), ("samgs", False)):
        found = []
        for sign in (1.0, -1.0):
            model = Shared()
            features = model.trunk(model.x)
            features.register_hook(lambda grad, sign=sign: sign * grad)
            Surgery(name, 3).backward(model.losses_from(features), diagnose=diagnose)
            found.append(grads(model.shared))
        torch.testing.assert_close(found[0], -found[1])


def test_a_layer_that_is_frozen_later_keeps_its_columns() -> None:
    model, surgery = Shared(), Surgery("samgs", 3)
    surgery.backward(model.losses())
    model.zero_grad()
    for parameter in model.trunk[0].parameters():
        parameter.requires_grad_(False)
    surgery.backward(model.losses())
    assert all(parameter.grad is None for parameter in model.trunk[0].parameters())
    assert all(parameter.grad is not None for parameter in model.trunk[2].parameters())


def test_checkpointed_layers_run_once_a_task() -> None:
    block = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)).double()
    heads = [nn.Linear(6, 1).double() for _ in range(3)]
    features = checkpoint(block, Shared().x, use_reentrant=False)
    Surgery("pcgrad", 3).backward([head(features).square().mean() for head in heads])
    assert block[1].num_batches_tracked == 1 + 3, "the forward pass, and one a task as in a loop"


def test_autocast_and_anomaly_mode_change_nothing() -> None:
    model, plain = Shared(dtype=torch.float32), Shared(dtype=torch.float32)
    losses = model.losses()
    with torch.autocast("cpu", torch.bfloat16), torch.autograd.set_detect_anomaly(True):
        Surgery("pcgrad", 3).backward(losses)
    Surgery("pcgrad", 3).backward(plain.losses())
    assert torch.equal(grads(model.shared), grads(plain.shared))


def test_collocation_points_are_no_parameters() -> None:
    """A physics-informed loss differentiates by its inputs, which then require a gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    points = torch.linspace(0, 3, 12, dtype=torch.float64)[:, None].requires_grad_()
    values = model(points)
    (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    losses = [(slope + values).square().mean(), (values - points.sin()).square().mean()]
    parameters = list(model.parameters())
    wanted = loop_jacobian(losses, parameters).sum(0)
    with pytest.raises(MethodError, match="may be an input"):
        Surgery("ls", 2).backward(losses)
    Surgery("ls", 2, reduction="sum").backward(losses, parameters, [[], []], diagnose=True)
    torch.testing.assert_close(grads(parameters), wanted)
    assert points.grad is None


@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_gradients_that_are_no_vectors_of_numbers_are_refused(kind: str) -> None:
    if kind == "complex":
        weight = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        losses = [(weight * k).abs().sum() for k in (1, 2)]
    else:
        losses = list(nn.Embedding(5, 2, sparse=True)(torch.tensor([1, 2])).square().sum(1))
    with pytest.raises(MethodError, match=kind):
        Surgery("pcgrad", 2).backward(losses)


def test_gradients_do_not_share_memory() -> None:
    first, second = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    Surgery("ls", 2, reduction="sum").backward([first + second, first + 2 * second])
    assert first.grad is not None and second.grad is not None
    first.grad.add_(5)
    assert (float(first.grad), float(second.grad)) == (7.0, 3.0)


@pytest.mark.parametrize("name", WITH_EVERY)
def test_saved_state_continues_to_the_bit(name: Named, tmp_path: Any) -> None:
    model, surgery = Shared(), Surgery(name, num_tasks=3, seed=4)
    copy, other = Shared(), Surgery(name, num_tasks=3, seed=99)

    def steps(surgery: Surgery, model: Shared, count: int) -> None:
        for _ in range(count):
            model.zero_grad()
            surgery.backward(model.losses())
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.05 * parameter.grad  # type: ignore[operator]
            surgery.observe(model.losses())

    steps(surgery, model, 5)
    torch.save({"model": model.state_dict(), "surgery": surgery.state_dict()}, tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    copy.load_state_dict(saved["model"])
    other.load_state_dict(saved["surgery"])
    steps(surgery, model, 10)
    steps(other, copy, 10)
    assert torch.equal(all_parameters(model), all_parameters(copy))


@pytest.mark.parametrize("name", MIXED)
def test_a_bad_loss_is_named_at_the_next_check(name: Named) -> None:
    model, surgery = Shared(), Surgery(name, num_tasks=3)
    surgery.backward(model.losses())
    surgery.check()
    surgery.observe(model.losses())
    losses = model.losses()
    losses[1] = losses[1] * torch.nan
    surgery.backward(losses)
    assert surgery.first_bad_call_K.tolist() == [-1, 1, -1]
    with pytest.raises(NonFiniteError, match=r"task 1 \(call 1\)"):
        surgery.check()


def test_diagnostics_measure_conflicts_where_gradients_were_seen() -> None:
    model, surgery = Shared(), Surgery("ls", num_tasks=3)
    surgery.backward(model.losses())
    assert "conflict_rate" not in surgery.diagnostics()
    surgery.backward(model.losses(), diagnose=True)
    norms = loop_jacobian(model.losses(), model.shared).norm(dim=1)
    torch.testing.assert_close(surgery.diagnostics()["gradient_norm_K"], norms)


def other_shapes() -> None:
    model, surgery = Shared(), Surgery("ls", 3)
    surgery.backward(model.losses(), model.shared)
    surgery.backward(model.losses(), model.shared[::-1], model.own)


def forgotten_observe() -> None:
    model, surgery = Shared(), Surgery(EVERY, 3)
    surgery.backward(model.losses())
    surgery.backward(model.losses())


def saved_between() -> None:
    model, surgery = Shared(), Surgery("ls", 3)
    surgery.accumulate(model.losses())
    surgery.state_dict()


def backward(*arguments: Any, **keywords: Any) -> Any:
    return lambda: Surgery("pcgrad", 3).backward(*arguments, **keywords)


def missing(model: Shared) -> list[Tensor | None]:
    losses = model.losses()
    return [losses[0], None, losses[2]]


M = Shared()
ERRORS = {
    "unknown method 'sagms'": lambda: Surgery("sagms", 3),
    "samgs has no option 'gama'; choices: .*gamma": lambda: Surgery("samgs", 3, gama=0.5),
    "options go with a method's name": lambda: Surgery(find_method("samgs").config(), 3, gamma=0.5),
    "num_tasks is missing": lambda: Surgery("samgs"),
    "made for 2": lambda: Surgery(make_method(find_method("ls").config(), 2, 0), 3),
    "max_jacobian_bytes=0": lambda: Surgery("samgs", 3, max_jacobian_bytes=0),
    "num_tasks='3': must be a whole number": lambda: Surgery("ls", "3"),  # type: ignore[arg-type]
    "num_tasks=3.0: must be a whole number": lambda: Surgery("ls", 3.0),  # type: ignore[arg-type]
    "max_norm='1': must be a number above 0": lambda: Surgery("ls", 3, max_norm="1"),  # type: ignore[arg-type]
    "seed='a'": lambda: Surgery("ls", 3, seed="a"),  # type: ignore[arg-type]
    "method=None: give a name": lambda: Surgery(None, 3),  # type: ignore[arg-type]
    "losses is a NoneType": backward(None),
    "losses is a dict": backward({"a": M.losses()[0]}),
    "the loss of task 0 is a int": backward([1, 2, 3]),
    "scaler is a float": backward(M.losses(), scaler=1.0),
    r"task_parameters\[0\] is a NoneType": backward(M.losses(), M.shared, [None] * 3),
    "features is a int": backward(M.losses(), features=3),
    "one of 3 tasks, and num_tasks=2": lambda: Surgery("samgs", 2).load_state_dict(Surgery("samgs", 3).state_dict()),
    "is no state of a Surgery": lambda: Surgery("samgs", 3).load_state_dict({"method": {}}),
    "2 losses for num_tasks=3": backward(M.losses()[:2]),
    "shape \\(3, 1\\)": backward(torch.stack(M.losses())[:, None]),
    "task 1 requires no gradient": backward([M.losses()[0], torch.ones(()), M.losses()[1]]),
    "task 2 has shape": backward([*M.losses()[:2], torch.ones(2, requires_grad=True)]),
    "no task has a loss": backward([None] * 3),
    r"the tasks \[1\] are missing": backward(missing(M)),
    "first batch must have every task": lambda: Surgery("famo", 3).backward(missing(M), M.shared, M.own),
    "is both in": backward(M.losses(), M.shared, [M.shared[:1], [], []]),
    "2 lists for num_tasks=3": backward(M.losses(), M.shared, M.own[:2]),
    "but is not in shared_parameters": backward(M.losses(), M.shared[:2]),
    "none of them requires": backward(M.losses(), []),
    "was computed": backward(M.losses(), [M.shared[0] * 2]),
    "share no parameter": lambda: Surgery("ls", 2).backward([nn.Parameter(torch.ones(())) for _ in range(2)]),
    "no nn.Parameter: it may be an input": backward([loss * torch.ones((), requires_grad=True) for loss in M.losses()]),
    "holds a module, Linear": backward(M.losses(), [M.trunk[0]], M.own),
    "shared_parameters is a Parameter": backward(M.losses(), M.shared[0], M.own),
    "neither in shared_parameters nor in task_parameters": backward(M.losses(), M.shared[:2], M.own),
    "detached": backward(M.losses(), features=M.trunk(M.x).detach()),
    "features is empty": backward(M.losses(), features=[]),
    "shapes are": other_shapes,
    r"call observe\(losses\)": forgotten_observe,
    "comes after backward": lambda: Surgery(EVERY, 3).observe(M.losses()),
    "not between accumulate": saved_between,
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_say_what_to_do(message: str) -> None:
    with pytest.raises(MethodError, match=message):
        ERRORS[message]()


def test_a_parameter_that_appears_later_is_an_error() -> None:
    model, surgery = Shared(), Surgery("pcgrad", 3)
    surgery.backward(model.losses())
    extra = nn.Parameter(torch.ones((), dtype=torch.float64))
    with pytest.raises(MethodError, match="not reached in the first batch"):
        surgery.backward([loss * extra for loss in model.losses()])
    with pytest.raises(MethodError, match="and another's too now"):
        losses = model.losses()
        surgery.backward([losses[0] + model.own[1][0].sum(), *losses[1:]])
