"""A small data set in the published layout with planted faults, for `check` to find.

python -m tests.vision.data.planted nyuv2 FOLDER      (or cityscapes, celeba, qm9)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.vision.data import trees
from tests.vision.qm9.trees import tree


def cut(path: Path) -> str:
    """Ends a file half-way."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def nyuv2(folder: Path) -> list[str]:
    """A cut file, another shape, a label that is none, and a gap in the numbers."""
    trees.write_nyuv2(folder, train=12, val=4)
    train = folder / "train"
    label_HW = np.load(train / "label" / "5.npy")
    label_HW[0, 0] = 40
    np.save(train / "label" / "5.npy", label_HW)
    np.save(train / "normal" / "7.npy", np.zeros((16, 16, 3), np.float32))
    (folder / "val" / "depth" / "1.npy").unlink()
    return [cut(train / "depth" / "3.npy"), "5.npy", "7.npy", "1.npy"]


def cityscapes(folder: Path) -> list[str]:
    """A depth that is not a number, and pickled objects, which are refused unread."""
    trees.write_cityscapes(folder, train=12, val=4)
    depth = folder / "train" / "depth" / "2.npy"
    np.save(depth, np.full_like(np.load(depth), np.nan))
    np.save(folder / "train" / "image" / "6.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return ["2.npy", "6.npy"]


def celeba(folder: Path) -> list[str]:
    """A cut picture, and a line of 39 attributes."""
    trees.write_celeba(folder, train=12, val=4, test=4)
    attributes = folder / "Anno" / "list_attr_celeba.txt"
    lines = attributes.read_text().splitlines()
    lines[6] = lines[6].rsplit(maxsplit=1)[0]
    attributes.write_text("\n".join(lines) + "\n")
    return [cut(folder / "Img" / "img_align_celeba" / "000009.jpg"), "list_attr_celeba.txt:7"]


def qm9(folder: Path) -> list[str]:
    """A row of one number less."""
    tree(folder)
    table = folder / "raw" / "gdb9.sdf.csv"
    lines = table.read_text().splitlines()
    lines[4] = lines[4].rsplit(",", maxsplit=1)[0]
    table.write_text("\n".join(lines) + "\n")
    return ["gdb9.sdf.csv:5"]


PLANTS: dict[str, Callable[[Path], list[str]]] = {
    "nyuv2": nyuv2,
    "cityscapes": cityscapes,
    "celeba": celeba,
    "qm9": qm9,
}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PLANTS or Path(sys.argv[2]).exists():
        sys.exit(f"{__doc__}\nFOLDER must not be there yet")
    print("planted in", *PLANTS[sys.argv[1]](Path(sys.argv[2])))
