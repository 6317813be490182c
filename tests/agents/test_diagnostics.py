"""Looks at the task gradients: what is logged, and that a run is the same with and without them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.variants import all_labels
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig, DiagnosticsError
from tests.agents.conftest import Build

TRIAD = ("conflict_rate", "mean_cosine", "magnitude_similarity", "triad_rate", "curvature", "normalised_curvature")


@pytest.mark.parametrize(
    ("actor", "critic"),  # some methods want positive losses, which the actor's are not
    [("ls", "ls"), ("famo", "famo"), *(("samgs", name) for name in all_labels())],
)
def test_looking_changes_no_bit_of_a_run(build: Build, actor: str, critic: str) -> None:
    looked = build(actor, critic, diagnostics=DiagnosticsConfig(every=1, curvature=True))
    unseen = build(actor, critic, diagnostics=DiagnosticsConfig(every=0))
    for learner in (looked, unseen):
        learner.update(5)
    for one, other in (
        (looked.critic.parameters.vector_P, unseen.critic.parameters.vector_P),
        (looked.actor.parameters.vector_P, unseen.actor.parameters.vector_P),
        (looked.target.vector_P, unseen.target.vector_P),
        (looked.log_temperature, unseen.log_temperature),
    ):
        assert torch.equal(one, other)
    for with_looks, without in zip(looked.metrics(), unseen.metrics(), strict=True):
        assert {key: with_looks[key] for key in without} == without, "the other metrics are the same as well"
    assert [row["network"] for row in looked.conflict_maps()] == ["critic", "actor"] and not unseen.conflict_maps()


def test_the_triad_of_each_network_is_logged(build: Build) -> None:
    learner = build("ls", diagnostics=DiagnosticsConfig(every=2))
    learner.update(4)
    run = learner.metrics()[0]
    for network in ("critic", "actor"):
        assert all(f"{network}/{measure}" in run for measure in TRIAD)
        assert 0 <= run[f"{network}/triad_rate"] <= run[f"{network}/conflict_rate"] <= 1
    assert run["critic/curvature"] > 0, "a squared error on nearly linear critics bends upwards along its gradient"


def test_curvature_can_be_left_out_and_looks_switched_off(build: Build) -> None:
    flat = build("samgs", diagnostics=DiagnosticsConfig(every=1, curvature=False))
    flat.update(1)
    assert "critic/mean_cosine" in (row := flat.metrics()[0]) and "critic/curvature" not in row
    off = build("samgs", diagnostics=DiagnosticsConfig(every=0))
    off.update(3)
    assert "critic/loss_mean" in (row := off.metrics()[0]) and "critic/mean_cosine" not in row


def test_looks_are_taken_when_due() -> None:
    assert [update for update in range(10) if DiagnosticsConfig(every=4).due(update)] == [0, 4, 8]
    assert not any(DiagnosticsConfig(every=0).due(update) for update in range(10))
    with pytest.raises(DiagnosticsError, match=r"diagnostics.every=-1 must be at least 1, or 0"):
        DiagnosticsConfig(every=-1).validate()
