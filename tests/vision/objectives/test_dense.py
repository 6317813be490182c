"""Losses and metrics of dense prediction against plain NumPy on the valid pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments_vision.contract import Targets
from experiments_vision.delta import BASELINES
from experiments_vision.errors import VisionError
from experiments_vision.objectives.dense import Cityscapes, NYUv2, depth_loss, normal_loss, segmentation_loss
from experiments_vision.objectives.registry import make_objective

CLASSES = 13


def batch(seed: int, size: int = 2, share: float = 0.8) -> tuple[list[Tensor], Targets]:
    """Random outputs and targets; a share of the pixels is valid, in each task others."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=rng)

    def known(channels: int) -> Tensor:
        return (torch.rand(size, 1, 6, 5, generator=rng) < share).expand(-1, channels, -1, -1)

    label = torch.randint(0, CLASSES, (size, 6, 5), generator=rng).masked_fill(~known(1)[:, 0], -1)
    depth = (draw(1, 6, 5).abs() + 0.1).masked_fill(~known(1), 0)
    normal = torch.nn.functional.normalize(draw(3, 6, 5), dim=1).masked_fill(~known(3), 0)
    outputs = [draw(CLASSES, 6, 5).log_softmax(1), draw(1, 6, 5), draw(3, 6, 5)]
    return outputs, {"label": label, "depth": depth, "normal": normal}


def valid(outputs: list[Tensor], targets: Targets) -> dict[str, Any]:
    """The valid pixels of a batch as flat arrays."""
    scores, depth, normal = (output.double().numpy() for output in outputs)
    label, true_depth, true_normal = (targets[name].numpy() for name in ("label", "depth", "normal"))
    here = label != -1
    near = true_depth != 0
    seen = true_normal.sum(1) != 0
    unit = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    cosine = (unit * true_normal).sum(1)[seen]
    return {
        "label": label[here],
        "guess": scores.argmax(1)[here],
        "logp": np.take_along_axis(scores, np.maximum(label, 0)[:, None], 1)[:, 0][here],
        "abs": np.abs(depth - true_depth)[near],
        "depth": true_depth[near],
        "cosine": cosine,
        "angle": np.degrees(np.arccos(np.clip(cosine, -1, 1))),
    }


def averages(pixels: dict[str, Any]) -> dict[str, float]:
    """Every metric over all these pixels."""
    hits = np.array([((pixels["label"] == c) & (pixels["guess"] == c)).sum() for c in range(CLASSES)])
    either = np.array([((pixels["label"] == c) | (pixels["guess"] == c)).sum() for c in range(CLASSES)])
    return {
        "miou": float(np.mean(hits[either > 0] / either[either > 0])),
        "pixel_accuracy": float(np.mean(pixels["label"] == pixels["guess"])),
        "abs_error": float(pixels["abs"].mean()),
        "rel_error": float((pixels["abs"] / pixels["depth"]).mean()),
        "mean_angle": float(pixels["angle"].mean()),
        "median_angle": float(np.median(pixels["angle"])),
        "within_11": float((pixels["angle"] < 11.25).mean()),
        "within_22": float((pixels["angle"] < 22.5).mean()),
        "within_30": float((pixels["angle"] < 30).mean()),
    }


def pool(batches: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: np.concatenate([pixels[key] for pixels in batches]) for key in batches[0]}


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_means_over_valid_pixels(seed: int) -> None:
    outputs, targets = batch(seed)
    pixels = valid(outputs, targets)
    expected = [-pixels["logp"].mean(), pixels["abs"].mean(), 1 - pixels["cosine"].mean()]
    found = NYUv2().losses(outputs, targets)
    assert [loss.item() for loss in found] == pytest.approx(expected, rel=1e-5)


def test_no_two_losses_share_a_node() -> None:
    outputs, targets = batch(0)
    leaves = [output.requires_grad_() for output in outputs]
    for place, loss in enumerate(NYUv2().losses(leaves, targets)):
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [task == place for task in range(3)]


def test_a_batch_without_a_valid_pixel_gives_finite_losses_and_no_gradient() -> None:
    outputs, targets = batch(0, share=0.0)
    leaves = [output.requires_grad_() for output in outputs]
    losses = NYUv2().losses(leaves, targets)
    assert [loss.item() for loss in losses] == [0, 0, 1]
    for gradient in torch.autograd.grad(sum(losses, torch.zeros(())), leaves):
        assert not gradient.any()


def test_masked_pixels_have_no_influence() -> None:
    outputs, targets = batch(1)
    before = [loss.item() for loss in NYUv2().losses(outputs, targets)]
    outputs[1] = outputs[1].masked_fill(targets["depth"] == 0, 1e6)
    outputs[0] = outputs[0].masked_fill((targets["label"] == -1).unsqueeze(1), -1e6)
    hidden = (targets["normal"].sum(1, keepdim=True) == 0).expand_as(outputs[2])
    outputs[2] = outputs[2].masked_fill(hidden, 7.0)
    assert [loss.item() for loss in NYUv2().losses(outputs, targets)] == pytest.approx(before)


def test_a_normal_whose_channels_add_up_to_zero_counts_as_unknown_as_published() -> None:
    outputs, targets = batch(1)
    hidden = targets["normal"].sum(1) == 0
    targets["normal"] = targets["normal"].where(~hidden.unsqueeze(1), torch.tensor([1.0, -1.0, 0.0])[:, None, None])
    assert hidden.any() and (targets["normal"].norm(dim=1) > 0.9).all()
    pixels = valid(outputs, targets)
    loss = normal_loss(outputs[2], targets["normal"])
    assert loss.item() == pytest.approx(1 - pixels["cosine"].mean(), rel=1e-5)
    meter = NYUv2().meter()
    meter.update(outputs, targets)
    assert meter.compute()["pooled"]["mean_angle"] == pytest.approx(pixels["angle"].mean(), rel=1e-5)


@pytest.mark.parametrize("loss", [segmentation_loss, depth_loss, normal_loss])
def test_a_nan_in_a_valid_pixel_spreads_to_the_loss(loss: Any) -> None:
    outputs, targets = batch(2, share=1.0)
    place = [segmentation_loss, depth_loss, normal_loss].index(loss)
    assert math.isnan(loss(outputs[place] * torch.nan, targets[("label", "depth", "normal")[place]]).item())


def test_metrics_in_both_modes() -> None:
    meter = NYUv2().meter()
    batches = [batch(seed, size, share) for seed, size, share in ((0, 2, 0.9), (1, 2, 0.4), (2, 1, 0.6))]
    for outputs, targets in batches:
        meter.update(outputs, targets)
    found = meter.compute()
    each = [valid(*one) for one in batches]
    pooled = averages(pool(each))
    angle_error = 0.0025 + 1e-4
    for name, value in pooled.items():
        assert found["pooled"][name] == pytest.approx(value, abs=angle_error if name == "median_angle" else 1e-5)
    own = [averages(pixels) for pixels in each]
    for name in pooled.keys() - {"miou", "pixel_accuracy"}:
        assert found["batches"][name] == pytest.approx(np.mean([one[name] for one in own]), abs=2e-4), name
        assert abs(found["batches"][name] - found["pooled"][name]) > 1e-5, "the batches must differ for this to tell"
    for name in ("miou", "pixel_accuracy"):  # one matrix over the split, in the papers too
        assert found["batches"][name] == pytest.approx(pooled[name])


def test_a_batch_without_a_valid_pixel_is_left_out_of_the_means() -> None:
    meter, alone = NYUv2().meter(), NYUv2().meter()
    meter.update(*batch(0))
    alone.update(*batch(0))
    meter.update(*batch(1, share=0.0))
    assert meter.compute() == alone.compute()


def test_nothing_valid_at_all_is_nan() -> None:
    for updates in (0, 1):
        meter = NYUv2().meter()
        for _ in range(updates):
            meter.update(*batch(0, share=0.0))
        found = meter.compute()
        assert found.keys() == {"batches", "pooled"}
        for values in found.values():
            assert values.keys() == {spec.name for spec in NYUv2().metrics}
            assert all(math.isnan(value) for value in values.values())


def test_a_class_that_never_occurs_is_nan_as_published_and_left_out_when_pooled() -> None:
    label = torch.tensor([[[0, 0, 1, -1]]])
    guess = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 5]]]), 7).permute(0, 3, 1, 2).float()
    meter = Cityscapes().meter()
    meter.update([guess, torch.ones(1, 1, 1, 4)], {"label": label, "depth": torch.ones(1, 1, 1, 4)})
    found = meter.compute()
    assert math.isnan(found["batches"]["miou"])
    assert found["pooled"]["miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)  # classes 0 and 1; the guess of 5 is ignored
    assert found["pooled"]["pixel_accuracy"] == found["batches"]["pixel_accuracy"] == pytest.approx(2 / 3)


def test_a_nan_prediction_spreads_to_the_metrics_of_its_pixels() -> None:
    outputs, targets = batch(0, share=1.0)
    outputs[1][0, 0, 0, 0] = torch.nan
    outputs[2][0, :, 0, 0] = torch.nan
    meter = NYUv2().meter()
    meter.update(outputs, targets)
    meter.update(*batch(1))
    for values in meter.compute().values():
        broken = {name for name, value in values.items() if math.isnan(value)}
        assert broken == {"abs_error", "rel_error", "mean_angle", "median_angle"}


def test_scores_are_minus_delta_m() -> None:
    nyuv2 = NYUv2()
    base = BASELINES["nyuv2"]
    assert nyuv2.score(base) == pytest.approx(0)
    assert nyuv2.score(base | {"miou": base["miou"] * 1.09}) == pytest.approx(1.0)
    assert nyuv2.score(base | {"abs_error": base["abs_error"] * 1.09}) == pytest.approx(-1.0)
    assert nyuv2.score({"miou": 2 * base["miou"]}) == pytest.approx(100)
    assert math.isnan(nyuv2.score(base | {"miou": math.nan}))


def test_facts_decide_the_number_of_classes() -> None:
    objective = make_objective("cityscapes", {"classes": 19})
    assert isinstance(objective, Cityscapes) and objective.classes == 19
    with pytest.raises(VisionError, match="classes=1"):
        make_objective("cityscapes", {"classes": 1})
    with pytest.raises(VisionError, match=r"dataset=nyu is unknown; choices: nyuv2, .*multidigits"):
        make_objective("nyu", {})


def test_updates_know_no_data_dependent_shape() -> None:
    """Meta tensors have shapes and no values: whatever asks for one (a sync on CUDA) fails."""
    outputs, targets = batch(0)
    meter = NYUv2().meter()
    meter.update([output.to("meta") for output in outputs], {name: t.to("meta") for name, t in targets.items()})
    NYUv2().losses([output.to("meta") for output in outputs], {name: t.to("meta") for name, t in targets.items()})
