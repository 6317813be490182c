"""What the README shows is run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

import mtrl_surgery
from mtrl_surgery.methods.registry import METHODS, find_method, make_method

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_example_method_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, block = BLOCKS
    assert len([line for line in block.splitlines() if line.strip()]) <= 20, "the README says 20 lines"
    (tmp_path / "readme_method.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        __import__("readme_method")
        method = make_method(find_method("unit").config(floor=0.1), num_tasks=2, seed=0)
        jacobian_KP = torch.tensor([[3.0, 4.0], [0.0, 0.01]])
        weights_K = method.weights(jacobian_KP @ jacobian_KP.T, torch.ones(2))  # type: ignore[attr-defined]
        torch.testing.assert_close(weights_K, torch.tensor([0.2, 10.0]))
    finally:
        sys.modules.pop("readme_method", None)
        METHODS.pop("unit", None)


def test_the_two_lines_for_anyones_loop_work() -> None:
    library, _ = BLOCKS
    trunk, *heads = (torch.nn.Linear(4, 4) for _ in range(4))
    features = trunk(torch.randn(5, 4))
    losses = dict(zip(("loss_a", "loss_b", "loss_c"), (head(features).square().mean() for head in heads), strict=True))
    exec(compile(library, "README.md", "exec"), {"mtrl_surgery": mtrl_surgery, **losses})
    assert all(parameter.grad.norm() > 0 for part in (trunk, *heads) for parameter in part.parameters())


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert links
    missing = [link for link in links if not (README.parent / link).exists()]
    assert not missing
