"""The augmentation's properties, and what it must share with the published one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments_vision.contract import Place, Targets
from experiments_vision.data.augment import SCALES, augment, crop_size, flip, scale_crop

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
seeds = st.integers(0, 2**32 - 1)


def picture(size: tuple[int, int], seed: int, normals: bool = True) -> tuple[Tensor, Targets]:
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    depth = torch.rand(1, height, width, generator=generator) + 0.5
    depth[torch.rand(1, height, width, generator=generator) < 0.3] = 0
    targets = {"label": torch.randint(-1, 5, size, generator=generator), "depth": depth}
    if normals:
        normal = torch.randn(3, height, width, generator=generator)
        targets["normal"] = normal / normal.norm(dim=0)
    return torch.rand(3, height, width, generator=generator), targets


def same(left: tuple[Tensor, Targets], right: tuple[Tensor, Targets]) -> bool:
    assert left[1].keys() == right[1].keys()
    return torch.equal(left[0], right[0]) and all(torch.equal(left[1][name], right[1][name]) for name in left[1])


@given(sizes, seeds, st.booleans())
def test_a_flip_of_a_flip_is_the_identity(size: tuple[int, int], seed: int, normals: bool) -> None:
    image, targets = picture(size, seed, normals)
    assert same(flip(*flip(image, targets)), (image, targets))


def test_a_flip_mirrors_and_turns_x_round() -> None:
    image, targets = picture((3, 4), 0)
    kept = {name: target.clone() for name, target in targets.items()}
    flipped, out = flip(image, targets)
    assert torch.equal(flipped[:, :, 0], image[:, :, 3])
    assert torch.equal(out["label"][:, 1], targets["label"][:, 2])
    assert torch.equal(out["normal"][0, :, 0], -targets["normal"][0, :, 3])
    assert torch.equal(out["normal"][1:, :, 0], targets["normal"][1:, :, 3])
    assert same((image, targets), (image, kept))  # the argument is left alone


@settings(deadline=None)
@given(sizes, seeds, st.integers(0, 10), st.integers(0, 10), st.booleans())
def test_what_holds_of_every_augmented_picture(
    size: tuple[int, int], seed: int, epoch: int, index: int, normals: bool
) -> None:
    image, targets = picture(size, seed, normals)
    out_image, out = augment(image, targets, seed, Place(epoch, index))
    assert out_image.shape == image.shape and out_image.dtype == torch.float32
    assert {name: (t.shape, t.dtype) for name, t in out.items()} == {
        name: (t.shape, t.dtype) for name, t in targets.items()
    }
    assert set(out["label"].unique().tolist()) <= set(targets["label"].unique().tolist())
    assert out_image.min() >= image.min() - 1e-6 and out_image.max() <= image.max() + 1e-6
    possible = torch.cat([targets["depth"].flatten() / scale for scale in SCALES])  # nearest: no new depths
    assert torch.isin(out["depth"].flatten(), possible).all()


@settings(deadline=None)
@given(sizes, seeds)
def test_invalid_stays_invalid(size: tuple[int, int], seed: int) -> None:
    image, targets = picture(size, seed)
    nothing = {"label": torch.full(size, -1), **{name: torch.zeros_like(targets[name]) for name in ("depth", "normal")}}
    for index in range(4):
        _, out = augment(image, nothing, seed, Place(0, index))
        assert (out["label"] == -1).all()
        assert not out["depth"].any() and not out["normal"].any()


@settings(deadline=None)
@given(sizes, seeds, st.sampled_from(SCALES))
def test_label_and_depth_stay_together(size: tuple[int, int], seed: int, scale: float) -> None:
    """A pixel's label and depth come from the same pixel of the crop, whose depth is then divided by the scale."""
    image, targets = picture(size, seed)
    targets["depth"] = (targets["label"][None] + 2).float()
    rows, columns = crop_size(*size, scale)
    _, out = scale_crop(image, targets, scale, size[0] - rows, size[1] - columns)
    torch.testing.assert_close(out["depth"][0] * scale, (out["label"] + 2).float())


def test_a_crop_is_scaled_up_as_published() -> None:
    """Corners of a bilinear crop are the crop's corners; the nearest of 12 in 10 pixels is floor(i * 10 / 12)."""
    image, targets = picture((12, 24), 1)
    out_image, out = scale_crop(image, targets, 1.2, top=2, left=3)
    assert crop_size(12, 24, 1.2) == (10, 20)
    for smooth, source in ((out_image, image), (out["normal"], targets["normal"])):
        torch.testing.assert_close(smooth[:, 0, 0], source[:, 2, 3])
        torch.testing.assert_close(smooth[:, -1, -1], source[:, 11, 22])
    rows = 2 + torch.arange(12) * 10 // 12
    columns = 3 + torch.arange(24) * 20 // 24
    assert torch.equal(out["label"], targets["label"][rows][:, columns])
    assert torch.equal(out["depth"][0], targets["depth"][0][rows][:, columns] / 1.2)


def test_bilinear_in_the_middle_of_two() -> None:
    ramp = torch.arange(6.0).expand(3, 2, 6).clone()
    targets = {"label": torch.zeros(2, 6, dtype=torch.int64), "depth": torch.ones(1, 2, 6)}
    out_image, _ = scale_crop(ramp, targets, 1.5, top=0, left=1)  # columns 1 to 4 over 6 pixels
    torch.testing.assert_close(out_image[0, 0], torch.linspace(1, 4, 6))


def test_the_same_place_gives_the_same_bits() -> None:
    image, targets = picture((16, 16), 0)
    for place in (Place(0, 0), Place(3, 7)):
        assert same(augment(image, targets, 5, place), augment(image, targets, 5, place))


@pytest.mark.parametrize("vary", ["seed", "epoch", "index"])
def test_seed_epoch_and_index_all_count(vary: str) -> None:
    image, targets = picture((16, 16), 0)

    def at(number: int) -> tuple[Tensor, Targets]:
        epoch, index = (number if vary == key else 0 for key in ("epoch", "index"))
        return augment(image, targets, number if vary == "seed" else 0, Place(epoch, index))

    assert not all(same(at(number), at(0)) for number in range(5))


def test_scales_flips_and_corners_are_uniform() -> None:
    """Of 600 places a third has each scale and half are flipped: within 4 standard deviations."""
    height, width = 6, 12
    image = torch.arange(float(height * width)).view(1, height, width).expand(3, -1, -1)
    targets = {"label": torch.zeros(height, width, dtype=torch.int64), "depth": torch.ones(1, height, width)}
    scales, flips, corners = [], [], set()
    for index in range(600):
        out_image, out = augment(image, targets, 0, Place(0, index))
        scales.append(round(1 / float(out["depth"][0, 0, 0]), 4))
        flips.append(bool(out_image[0, 0, 0] > out_image[0, 0, -1]))
        if scales[-1] == 1.5:
            corners.add(float(out_image[0, 0].min()))
    third, half = 4 * np.sqrt(600 * 2 / 9), 4 * np.sqrt(600 / 4)
    assert all(abs(scales.count(scale) - 200) < third for scale in SCALES)
    assert abs(sum(flips) - 300) < half
    assert corners == {row * width + column for row in range(3) for column in range(5)}
