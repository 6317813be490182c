"""What holds for every method."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtrl_surgery.methods._solvers.arrays import NUMPY, TORCH, library_of, without_looking
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting, Method
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.ls import LsConfig
from mtrl_surgery.methods.registry import METHODS, make_method
from mtrl_surgery.methods.samgs import SamgsConfig
from mtrl_surgery.runs.arrays import pack
from mtrl_surgery.tensors import to_arrays
from tests.methods.cases import CASES
from tests.methods.jacobians import direction, jacobian, turn

every_method = pytest.mark.parametrize("label", CASES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def make(label: str, tasks: int, seed: int = 0) -> AnyMethod:
    return make_method(CASES[label].config, tasks, seed)


def test_every_registered_method_is_tested_here() -> None:
    assert {case.config.name for case in CASES.values()} == set(METHODS)


@every_method
def test_the_class_is_what_the_registry_says(label: str) -> None:
    method = make(label, 3)
    needs = CASES[label].needs or METHODS[method.name].needs
    base = {"losses": LossWeighting, "gramian": GramianWeighting, "jacobian": JacobianMethod}[needs]
    assert isinstance(method, base)
    assert method.needs == needs
    assert method.num_tasks == 3


@every_method
@every_dtype
@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_direction_has_the_shape_and_dtype_of_a_gradient(label: str, dtype: torch.dtype, tasks: int) -> None:
    method = make(label, tasks)
    matrix = torch.as_tensor(jacobian("gaussian", tasks, 11, 0)).to(dtype)
    before = matrix.clone()
    result = direction(method, matrix, dtype=dtype)
    assert result.shape == (11,)
    assert result.dtype == dtype
    assert torch.equal(matrix, before), "the Jacobian is the engine's"
    assert result.isfinite().all()
    weights_K = method.diagnostics()["weights_K"]
    assert weights_K.shape == (tasks,)
    assert weights_K.dtype == dtype


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if not case.chaotic])
def test_float32_agrees_with_float64(label: str) -> None:
    single, double = make(label, 5), make(label, 5)
    for step in range(5):
        got, expected = turn(single, step, 5, 30, torch.float32).double(), turn(double, step, 5, 30)
        torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-4)


@every_method
@every_dtype
def test_the_same_seed_gives_the_same_bits(label: str, dtype: torch.dtype) -> None:
    one, two = make(label, 4, seed=5), make(label, 4, seed=5)
    for step in range(20):
        assert torch.equal(turn(one, step, 4, 9, dtype), turn(two, step, 4, 9, dtype))


@every_method
@pytest.mark.parametrize(("dtype", "saved_at"), [(torch.float32, 37), (torch.float64, 0), (torch.float64, 1)])
def test_a_restored_method_goes_on_to_the_bit(label: str, dtype: torch.dtype, saved_at: int) -> None:
    method = make(label, 4, seed=1)
    for step in range(saved_at):
        turn(method, step, 4, 9, dtype)
    saved = deepcopy(method.state_dict())
    expected = [turn(method, step, 4, 9, dtype) for step in range(saved_at, saved_at + 40)]
    fresh, used = make(label, 4, seed=2), make(label, 4, seed=3)
    turn(used, 1000, 4, 9, dtype)
    for restored in (fresh, used):
        restored.load_state_dict(saved)
        got = [turn(restored, step, 4, 9, dtype) for step in range(saved_at, saved_at + 40)]
        assert all(map(torch.equal, expected, got))


@every_method
def test_loading_a_state_takes_none_of_its_tensors(label: str) -> None:
    method, other = make(label, 3), make(label, 3)
    turn(method, 0, 3, 5)
    given = deepcopy(method.state_dict())
    before = written(given)
    other.load_state_dict(given)
    turn(other, 1, 3, 5)
    assert written(given) == before


def written(state: Any) -> Any:
    """A state as a checkpoint has it."""
    arrays, tree = pack(to_arrays(state))
    return {name: array.tobytes() for name, array in arrays.items()}, tree


@every_method
def test_every_buffer_says_what_its_axes_count(label: str) -> None:
    """7 tasks, 11 parameters, and nothing else of these sizes."""
    method = make(label, 7)
    turn(method, 0, 7, 11)
    sizes = {7: "task", 11: "parameter"}
    for name, buffer in method.named_buffers():
        assert tuple(sizes.get(size, "other") for size in buffer.shape) == method.state_axes[name], name


@every_method
def test_one_task_is_scaled_only(label: str) -> None:
    matrix, case = jacobian("gaussian", 1, 6, 0), CASES[label]
    result, gradient_P = direction(make(label, 1), matrix), torch.as_tensor(matrix[0])
    if case.one_task_sign:
        assert torch.equal(result.sign(), gradient_P.sign())
    else:
        torch.testing.assert_close(result, case.one_task * gradient_P)


@every_method
def test_a_zero_gradient_leaves_the_direction_finite(label: str) -> None:
    matrix = jacobian("gaussian", 4, 6, 0)
    matrix[2] = 0
    assert direction(make(label, 4), matrix).isfinite().all()
    assert (direction(make(label, 4), np.zeros((4, 6))) == 0).all()


@every_method
def test_identical_gradients_keep_their_direction(label: str) -> None:
    gradient = jacobian("gaussian", 1, 6, 0)[0]
    result = direction(make(label, 3), np.stack([gradient] * 3)).numpy()
    if CASES[label].signs_only:
        assert (np.sign(result) == np.sign(gradient)).all()
    else:
        assert result @ gradient == pytest.approx(np.linalg.norm(result) * np.linalg.norm(gradient))


@every_method
def test_opposite_gradients_cancel(label: str) -> None:
    gradient = jacobian("gaussian", 1, 6, 0)[0]
    result = direction(make(label, 2), np.stack([gradient, -gradient]))
    if CASES[label].opposite_cancel:
        torch.testing.assert_close(result, torch.zeros_like(result), rtol=0, atol=1e-7)
    else:
        assert result.isfinite().all() and result.norm() > 1e-3


@every_method
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shows_in_the_direction(label: str, bad: float) -> None:
    matrix = jacobian("gaussian", 3, 6, 0)
    matrix[1] = bad
    finite_P = direction(make(label, 3), matrix).isfinite()
    assert not (finite_P.any() if CASES[label].nan_spreads else finite_P.all())


@every_method
def test_wrong_shapes_are_named(label: str) -> None:
    with pytest.raises(MethodError, match=r"expected \(4,|expected \(4\b"):
        direction(make(label, 4), jacobian("gaussian", 3, 6, 0))
    with pytest.raises(MethodError, match="num_tasks=0"):
        make(label, 0)


def test_a_state_of_another_method_or_size_is_refused() -> None:
    samgs = make("samgs", 3)
    turn(samgs, 0, 3, 5)
    kept = deepcopy(samgs.state_dict())
    with pytest.raises(MethodError, match=r"missing \['second_moment', 'steps'\], unexpected \['_extra_state'\]"):
        samgs.load_state_dict(make("pcgrad", 3).state_dict())
    famo = make("famo", 3)
    with pytest.raises(MethodError, match=r"famo.*shape \(4,\), expected \(3,\)"):
        famo.load_state_dict(make("famo", 4).state_dict())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in samgs.state_dict().items())


class NoLooking(TorchDispatchMode):
    """Refuses whatever would make the host wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        assert not name.startswith(("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if not case.looks])
def test_no_call_waits_for_the_device(label: str) -> None:
    method = make(label, 4)
    with without_looking(), NoLooking():
        for step in range(3):
            turn(method, step, 4, 9)


def test_the_guard_against_looking_works() -> None:
    with NoLooking(), pytest.raises(AssertionError):
        torch.ones(1).item()


def test_a_block_without_looking_ends() -> None:
    one = torch.ones(1)
    with without_looking():
        assert library_of(one)[0] is TORCH
    assert library_of(one)[0] is NUMPY


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if not case.looks])
def test_both_libraries_give_the_same_directions(label: str) -> None:
    matrix = jacobian("conflicting", 6, 20, 0)
    host = direction(make(label, 6), matrix)
    with without_looking():
        torch.testing.assert_close(direction(make(label, 6), matrix), host, rtol=1e-5, atol=1e-5)


def test_methods_are_independent_of_each_other() -> None:
    config = SamgsConfig()
    actor, critic = make_method(config, 2, 0), make_method(config, 2, 0)
    direction(actor, jacobian("gaussian", 2, 4, 0))
    direction(critic, jacobian("gaussian", 2, 9, 0))
    with pytest.raises(MethodError, match="every network needs a method of its own"):
        direction(actor, jacobian("gaussian", 2, 9, 0))


def test_linear_scalarisation_weighs_all_tasks_alike() -> None:
    losses_K = torch.tensor([3.0, -1.0, 0.0, 9.0])
    assert make_method(LsConfig(), 4, 0).weights(losses_K).tolist() == [0.25] * 4  # type: ignore[attr-defined]
    assert make_method(LsConfig(reduction="sum"), 4, 0).weights(losses_K).tolist() == [1.0] * 4  # type: ignore[attr-defined]


def test_the_base_class_wants_a_solve() -> None:
    with pytest.raises(TypeError, match="abstract"):
        GramianWeighting(2, LsConfig())  # type: ignore[abstract]
    assert issubclass(GramianWeighting, Method)


def test_numpys_blas_has_one_thread_while_a_method_solves_and_its_own_after() -> None:
    blas = ThreadpoolController().select(internal_api="openblas")

    def threads() -> list[int]:  # other packages bring libraries of their own, some of which have but one thread
        return [library["num_threads"] for library in blas.info() if "numpy" in library["filepath"]]

    if not threads():
        pytest.skip("this NumPy has another BLAS, which is left alone")
    inside: list[int] = []
    method = make("cagrad", 3)
    assert isinstance(method, GramianWeighting)
    solve = method.solve

    def watched(gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        inside.extend(threads())
        return solve(gramian_KK, losses_K)

    method.solve = watched  # type: ignore[method-assign]
    with blas.limit(limits=2):  # the tests themselves may run on one
        direction(method, jacobian("gaussian", 3, 6, 0))
        assert set(inside) == {1}
        assert set(threads()) == {2}
