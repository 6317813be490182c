"""The blocked Gramian is the Gramian."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl_surgery.methods._common import gramian


@settings(max_examples=40, deadline=None)
@given(
    tasks=st.sampled_from((1, 2, 5, 31, 32, 33, 50)),
    columns=st.sampled_from((0, 1, 7, 2047, 2048, 2049, 5_000)),
    dtype=st.sampled_from((torch.float32, torch.float64)),
    transposed=st.booleans(),
)
def test_it_is_the_matrix_times_its_transpose(tasks: int, columns: int, dtype: torch.dtype, transposed: bool) -> None:
    generator = torch.Generator().manual_seed(columns)
    matrix_KP = torch.randn((columns, tasks) if transposed else (tasks, columns), generator=generator, dtype=dtype)
    matrix_KP = matrix_KP.T if transposed else matrix_KP
    expected_KK = matrix_KP.double() @ matrix_KP.double().T
    result_KK = gramian(matrix_KP)
    assert result_KK.dtype == dtype
    torch.testing.assert_close(result_KK.double(), expected_KK, rtol=1e-5, atol=1e-5 * max(columns, 1) ** 0.5)
    assert torch.equal(result_KK, gramian(matrix_KP))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("tasks", [3, 40])
def test_what_is_not_finite_stays_with_its_task(bad: float, tasks: int) -> None:
    matrix_KP = torch.ones(tasks, 5000)
    matrix_KP[1, 4999] = bad
    finite_KK = gramian(matrix_KP).isfinite()
    assert not finite_KK[1].any() and not finite_KK[:, 1].any()
    assert finite_KK[0, 0] and finite_KK[0, 2] and finite_KK[2, 2]
