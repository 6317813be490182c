"""MultiDigits: what the pictures are made of, and that no digit is in two splits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments_vision.contract import SPLITS, Place, Split
from experiments_vision.data.multidigits import PAIRS, Overlaid, overlay, pool
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import make_source
from experiments_vision.errors import VisionError

LABELS_N = load_digits().target.astype(np.int64)
DIGITS_NHW = load_digits().images.astype(np.float32)


def dataset(split: Split, **options: object) -> Overlaid:
    made = make_source(DataConfig(**options)).dataset(split)  # type: ignore[arg-type]
    assert isinstance(made, Overlaid)
    return made


def test_nothing_is_wrong_with_the_digits() -> None:
    assert make_source(DataConfig()).check() == []


def test_counts_shapes_and_ranges() -> None:
    for split in SPLITS:
        inputs, targets = dataset(split).tensors()
        assert inputs.shape == (PAIRS[split], 1, 12, 12) and inputs.dtype == torch.float32
        assert inputs.min() == 0 and inputs.max() == 1
        assert {name: (target.shape, target.dtype) for name, target in targets.items()} == {
            name: ((PAIRS[split],), torch.int64) for name in ("left", "right")
        }
        for target in targets.values():
            share = torch.bincount(target, minlength=10) / PAIRS[split]
            assert share.shape == (10,) and (share - 0.1).abs().max() < 0.03
        assert len(torch.unique(targets["left"] * 10 + targets["right"])) == 100


def test_an_example_is_a_row_of_the_tensors() -> None:
    examples = dataset("val")
    inputs, targets = examples.tensors()
    image, labels = examples[Place(3, 5)]
    assert torch.equal(image, inputs[5])
    assert {name: label.item() for name, label in labels.items()} == {n: t[5].item() for n, t in targets.items()}


def test_the_splits_share_no_digit_and_leave_none_out() -> None:
    pools = {split: set(pool(LABELS_N, split).tolist()) for split in SPLITS}
    assert sum(map(len, pools.values())) == 1797
    assert set.union(*pools.values()) == set(range(1797))
    for split, share in zip(SPLITS, (4 / 6, 1 / 6, 1 / 6), strict=True):
        for label in range(10):
            members = sum(LABELS_N[index] == label for index in pools[split])
            assert abs(members - share * (label == LABELS_N).sum()) <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_are_overlaid_digits_of_their_split(split: Split) -> None:
    """Where only one digit lies the picture shows it: a digit of the split with the label must fit there."""
    inputs, targets = dataset(split, limit=200).tensors()
    members = pool(LABELS_N, split)
    image_BHW = (inputs[:, 0] * 16).numpy()
    for name, corner, alone in (("left", (0, 0), np.s_[:4]), ("right", (4, 4), np.s_[4:])):
        window_BHW = image_BHW[:, corner[0] : corner[0] + 8, corner[1] : corner[1] + 8]
        fits_BM = (window_BHW[:, None, alone] == DIGITS_NHW[members][None, :, alone]).all((2, 3))
        same_BM = targets[name].numpy()[:, None] == LABELS_N[members]
        assert (fits_BM & same_BM).any(1).all()
    assert not image_BHW[:, :4, 8:].any() and not image_BHW[:, 8:, :4].any()  # the other corners stay empty


def test_the_greater_pixel_is_seen() -> None:
    left, right = np.full((1, 8, 8), 4.0, np.float32), np.full((1, 8, 8), 16.0, np.float32)
    left[0, 7, 7], right[0, 0, 0] = 12, 8
    canvas = overlay(left, right)[0]
    assert (canvas[0, 0], canvas[11, 11], canvas[7, 7], canvas[4, 4], canvas[0, 11]) == (0.25, 1, 1, 0.5, 0)
    right[0, 3, 3] = 0
    assert overlay(left, right)[0, 7, 7] == 0.75


def test_no_pair_is_drawn_twice() -> None:
    inputs, _ = dataset("train").tensors()
    assert len(torch.unique(inputs.flatten(1), dim=0)) > 0.999 * len(inputs)  # max may hide a difference


def test_the_pictures_never_change() -> None:
    """Numbers measured on them stay comparable, whatever the run's seed and NumPy's version."""
    digest = hashlib.sha256()
    for split in SPLITS:
        inputs, targets = dataset(split, seed=7).tensors()
        for tensor in (inputs, targets["left"], targets["right"]):
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == "8130f8438bd4a382"


def test_limit_takes_the_first() -> None:
    few, _ = dataset("test", limit=7).tensors()
    whole, _ = dataset("test").tensors()
    assert torch.equal(few, whole[:7])


@pytest.mark.parametrize("options", [{"validation": 0.1}, {"data_dir": "/somewhere"}])
def test_values_that_make_no_sense(options: dict[str, object]) -> None:
    (key, value), *_ = options.items()
    with pytest.raises(VisionError, match=f"{key}={value}: multidigits"):
        make_source(DataConfig(**options))  # type: ignore[arg-type]
