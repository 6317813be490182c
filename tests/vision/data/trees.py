"""Writes small data sets in exactly the published layouts: random pictures, true formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from experiments_vision.tasks import TASKS

CLASSES = {"label_2": 2, "label_7": 7, "label_19": 19, "label": 7}


def write_nyuv2(folder: Path, train: int = 4, val: int = 2, height: int = 32, width: int = 64, seed: int = 0) -> Path:
    """`{train,val}/{image,label,depth,normal}/{i}.npy`: 13 classes, with pixels that have no label, depth or normal."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            normal_HWC = rng.normal(size=(height, width, 3))
            normal_HWC /= np.linalg.norm(normal_HWC, axis=-1, keepdims=True)
            normal_HWC[: height // 4] = 0
            fields = {
                **_picture(rng, height, width),
                "label": _labels(rng, height, width, 13),
                "normal": normal_HWC.astype(np.float32),
            }
            _save(folder / split, number, fields)
    return folder


def write_cityscapes(
    folder: Path,
    train: int = 4,
    val: int = 2,
    height: int = 32,
    width: int = 64,
    labels: tuple[str, ...] = ("label_2", "label_7", "label_19"),
    seed: int = 0,
) -> Path:
    """`{train,val}/{image,<labels>,depth}/{i}.npy`; `labels=("label",)` writes LibMTL's."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            maps = {name: _labels(rng, height, width, CLASSES[name]) for name in labels}
            _save(folder / split, number, {**_picture(rng, height, width), **maps})
    return folder


def write_celeba(folder: Path, train: int = 4, val: int = 2, test: int = 2, seed: int = 0) -> Path:
    """Pictures of 178x218, a line of 40 attributes each, and the partition; numbered from 000001.jpg."""
    rng = np.random.default_rng(seed)
    images, annotations, evaluation = folder / "Img" / "img_align_celeba", folder / "Anno", folder / "Eval"
    for place in (images, annotations, evaluation):
        place.mkdir(parents=True)
    total = train + val + test
    names = [f"{number:06d}.jpg" for number in range(1, total + 1)]
    for name in names:
        small = Image.fromarray(rng.integers(256, size=(12, 10, 3), dtype=np.uint8))
        small.resize((178, 218), Image.Resampling.BICUBIC).save(images / name, quality=90)
    signs = rng.choice([-1, 1], size=(total, 40))
    rows = [f"{name} " + "".join(f"{sign:2d} " for sign in row) for name, row in zip(names, signs, strict=True)]
    header = [str(total), " ".join(TASKS["celeba"]) + " "]
    (annotations / "list_attr_celeba.txt").write_text("\n".join([*header, *rows]) + "\n")
    splits = [0] * train + [1] * val + [2] * test
    partition = [f"{name} {split}" for name, split in zip(names, splits, strict=True)]
    (evaluation / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return folder


def _picture(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    depth_HW1 = rng.uniform(0.5, 10, size=(height, width, 1)).astype(np.float32)
    depth_HW1[:, : width // 4] = 0
    return {"image": rng.random((height, width, 3), dtype=np.float32), "depth": depth_HW1}


def _labels(rng: np.random.Generator, height: int, width: int, classes: int) -> np.ndarray:
    return rng.integers(-1, classes, size=(height, width)).astype(np.float32)


def _save(folder: Path, number: int, fields: Mapping[str, np.ndarray]) -> None:
    for name, array in fields.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{number}.npy", array)
