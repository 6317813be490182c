"""The update on a device that nobody can look at: Torch's `meta` has shapes and no numbers.

Who asks it for a number, or mixes its tensors with the host's, gets an error: what passes here doesn't make the host
wait for a device. What a device answers is tested on one (marker `gpu`).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agents import sac, streams
from benchmarks.variants import all_labels, find_entry
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.registry import find_method
from tests.agents.conftest import Build, transitions


@pytest.fixture(autouse=True)
def what_meta_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators, and a kernel for the whole of Adam."""

    def make(*words: Any, device: Any = "cpu") -> torch.Generator | None:
        return None if torch.device(device).type == "meta" else streams.torch_generator(*words, device=device)

    class Adam(torch.optim.Adam):
        def __init__(self, *arguments: Any, fused: bool, **options: Any) -> None:
            super().__init__(*arguments, **options)

    monkeypatch.setattr(sac, "torch_generator", make)
    monkeypatch.setattr(torch.optim, "Adam", Adam)


@pytest.mark.parametrize("label", [label for label in all_labels() if find_entry(label).origin == "ours"])
def test_updates_and_diagnostics_never_look(label: str, build: Build) -> None:
    learner = build(label, device="meta", fill=False, diagnostics=DiagnosticsConfig(every=1))
    learner.add(transitions(3, 20, 2, 4, 2, seed=1))
    learner.update(2)
    assert learner.critic.parameters.vector_P.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        learner.metrics()


def test_who_looks_is_found(build: Build) -> None:
    """TorchJD's GradVac asks for numbers, and says so in the table of methods."""
    assert find_method("gradvac").origin != "ours"
    learner = build("gradvac", device="meta", fill=False)
    learner.add(transitions(3, 20, 2, 4, 2, seed=1))
    with pytest.raises(RuntimeError, match="meta"):
        learner.update(1)
