"""The methods on a device that nobody can look at: Torch's `meta` has shapes and no numbers.

Who asks it for a number, or mixes its tensors with the host's, gets an error. What a device answers is tested on one
(test_gpu.py), and on the host with the functions that devices get (test_contract.py).
"""

from __future__ import annotations

import pytest
import torch

from mtrl_surgery.jacobian.conflict import conflict_diagnostics, conflict_map
from mtrl_surgery.methods.registry import make_method
from tests.methods.cases import CASES
from tests.methods.stepping import step

CANNOT_BE_MOVED = {"imtl_l", "torchjd_uw"}
"""TorchJD's parameters can be moved to other devices, but not to this one."""


def step_on_meta(label: str) -> None:
    method = make_method(CASES[label].config, 10, 3).to("meta")
    losses_K = torch.rand(10, dtype=torch.float64, device="meta")
    for _ in range(2):
        jacobian_KP = torch.randn(10, 500, dtype=torch.float64, device="meta")
        direction_P = step(method, jacobian_KP, losses_K)
        assert (direction_P.shape, direction_P.device.type) == ((500,), "meta")
        conflict_diagnostics(jacobian_KP @ jacobian_KP.T)
        conflict_map(jacobian_KP @ jacobian_KP.T)


@pytest.mark.parametrize("label", [label for label in CASES if not CASES[label].looks and label not in CANNOT_BE_MOVED])
def test_a_method_never_looks(label: str) -> None:
    step_on_meta(label)


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if case.looks])
def test_who_looks_is_found(label: str) -> None:
    with pytest.raises(RuntimeError, match="meta"):
        step_on_meta(label)
