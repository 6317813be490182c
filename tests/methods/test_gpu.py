"""The methods on a CUDA device."""

from __future__ import annotations

import copy

import pytest
import torch

from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.pcgrad import PcgradConfig
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.tensors import to_arrays, to_tensors
from tests.methods.cases import CASES
from tests.methods.jacobians import jacobian
from tests.methods.stepping import step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("label", CASES)
def test_a_device_gives_the_hosts_answer_without_a_wait_and_restores_to_the_bit(label: str) -> None:
    host, device = make_method(CASES[label].config, 10, 3), make_method(CASES[label].config, 10, 3).to("cuda")
    matrices = [torch.as_tensor(jacobian("gaussian", 10, 500, seed)) for seed in range(6)]
    on_device = [matrix.cuda() for matrix in matrices]
    losses_K = torch.linspace(0.5, 2, 10, dtype=torch.float64)
    losses_on_device = losses_K.cuda()
    step(copy.deepcopy(device), on_device[0], losses_on_device)  # what libraries do once
    results = []
    # What looks may wait for the device; TorchJD says nowhere how often.
    torch.cuda.set_sync_debug_mode("default" if CASES[label].looks else "error")
    try:
        for matrix in on_device[:3]:
            results.append(step(device, matrix, losses_on_device))
            conflict_diagnostics(matrix @ matrix.T)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for matrix, result in zip(matrices, results[:1] if CASES[label].chaotic else results, strict=False):
        torch.testing.assert_close(result.cpu(), step(host, matrix, losses_K), rtol=1e-3, atol=1e-3)

    saved = to_tensors(to_arrays(device.state_dict()))  # on the host
    restored = make_method(CASES[label].config, 10, 9).to("cuda")
    restored.load_state_dict(saved)
    for matrix in on_device[3:]:
        assert torch.equal(step(restored, matrix, losses_on_device), step(device, matrix, losses_on_device))


def test_a_random_method_refuses_to_be_captured() -> None:
    method = make_method(PcgradConfig(), 3, 0).to("cuda")
    with pytest.raises(MethodError, match="cannot be captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        method.uniform((3,), torch.device("cuda"))
