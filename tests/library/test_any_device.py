"""`Surgery` on a device that nobody can look at: Torch's `meta` has shapes and no numbers.

Who asks it for a number, or mixes its tensors with the host's, gets an error.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtrl_surgery import Surgery
from mtrl_surgery.methods.registry import METHODS

OURS = [name for name, entry in METHODS.items() if entry.origin == "ours"]
KINDS = ["graddrop", "pcgrad", "samgs", "famo"]  # one of its own on features, one a kind of method


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "exact") for name in OURS] + [(name, kind) for name in KINDS for kind in ("features", "missing")],
)
def test_a_loop_with_diagnostics_never_looks(name: str, kind: str) -> None:
    with torch.device("meta"):
        trunk = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6))
        heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(3))
    surgery = Surgery(name, 3)
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)
    for step in range(2):
        x_BI, y_KBO = torch.randn(8, 5, device="meta"), torch.randn(3, 8, 2, device="meta")
        features_BZ = trunk(x_BI)
        losses: list[Tensor | None] = [
            (head(features_BZ) - y_BO).square().mean() for head, y_BO in zip(heads, y_KBO, strict=True)
        ]
        seen = torch.stack([loss.detach() for loss in losses if loss is not None])
        if kind == "missing" and step:
            losses[1] = None
        optimizer.zero_grad()
        own = [list(head.parameters()) for head in heads]
        surgery.backward(losses, trunk.parameters(), own, features=[features_BZ] if kind == "features" else None)
        optimizer.step()
        if surgery.method.needs_losses_after_step:
            surgery.observe(seen)
        assert all(tensor.device.type == "meta" for tensor in surgery.diagnostics().values())
    assert all(parameter.grad is not None for parameter in trunk.parameters())
