"""MultiDigits: two overlaid handwritten digits, to be read both. Real data that comes with scikit-learn.

The digits are the 1,797 of UCI's optical recognition set that scikit-learn carries (Alpaydin and Kaynak, 1998; 8x8,
0 to 16). As in MultiMNIST (Sabour et al., NeurIPS 2017; as two tasks by Sener and Koltun, NeurIPS 2018) one lies at the
upper left and one at the lower right of a larger canvas, and a pixel is the greater of the two. The canvas is 12x12, so
that a quarter of each digit lies under the other. The pictures are the same in every run, whatever its seed, and no
digit is in two splits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from experiments_vision.contract import Place, Split, Targets
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import DataSource, Example, Examples, Fault, stream
from experiments_vision.errors import VisionError
from mtrl_surgery.shell import install

Labels = npt.NDArray[np.int64]

CANVAS: Final = 12
PAIRS: Final[dict[Split, int]] = {"train": 20_000, "val": 2_000, "test": 4_000}
_SIDE = 8
_DIGITS = 1797
_BRIGHTEST = 16
_SEED = 0  # the data set's own: every run sees the same pictures
_SIXTHS: dict[Split, tuple[int, int]] = {"train": (0, 4), "val": (4, 5), "test": (5, 6)}  # of each class's digits


class MultiDigitsSource(DataSource):
    """Two tasks of ten classes: pictures [1, 12, 12] in [0, 1] with `left` and `right`, int64 [].

    `facts` has `classes` and `size`, the canvas's side.
    """

    name = "multidigits"
    has_validation = True

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.facts = {"classes": 10, "size": CANVAS}

    def check(self) -> list[Fault]:
        """See that scikit-learn's digits are the ones this set is made of."""
        digits_NHW, labels_N = _digits()
        shapes = (digits_NHW.shape, labels_N.shape)
        if shapes != ((_DIGITS, _SIDE, _SIDE), (_DIGITS,)):
            return [Fault("sklearn.datasets.load_digits", f"shapes {shapes}; expected {_DIGITS} digits of 8x8")]
        if digits_NHW.min() < 0 or digits_NHW.max() > _BRIGHTEST or set(labels_N.tolist()) != set(range(10)):
            return [Fault("sklearn.datasets.load_digits", "out of range: expected 0 to 16, labels 0 to 9")]
        return []

    def _examples(self, split: Split) -> Examples:
        self._intact(self.check())
        digits_NHW, labels_N = _digits()
        count = len(self._limited(range(PAIRS[split])))
        left_B, right_B = (drawn_B[:count] for drawn_B in _pairs(pool(labels_N, split), split))
        return Overlaid(overlay(digits_NHW[left_B], digits_NHW[right_B]), labels_N[left_B], labels_N[right_B])


class Overlaid(Examples):
    """A split in memory: float32 canvases and int64 labels."""

    def __init__(self, canvas_NHW: npt.NDArray[np.float32], left_N: Labels, right_N: Labels) -> None:
        self._inputs_N1HW = torch.from_numpy(canvas_NHW[:, None])
        self._targets = {"left": torch.from_numpy(left_N), "right": torch.from_numpy(right_N)}

    def __len__(self) -> int:
        return len(self._inputs_N1HW)

    def __getitem__(self, place: Place) -> Example:
        """One picture."""
        return self._inputs_N1HW[place.index], {name: target[place.index] for name, target in self._targets.items()}

    def tensors(self) -> tuple[Tensor, Targets]:
        """The whole split."""
        return self._inputs_N1HW, dict(self._targets)


def overlay(left_BHW: npt.NDArray[np.float32], right_BHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The greater of two digits a pixel: upper left and lower right of a canvas [B, 12, 12], in [0, 1]."""
    canvas_BHW = np.zeros((len(left_BHW), CANVAS, CANVAS), dtype=np.float32)
    canvas_BHW[:, :_SIDE, :_SIDE] = left_BHW
    corner_BHW = canvas_BHW[:, -_SIDE:, -_SIDE:]
    np.maximum(corner_BHW, right_BHW, out=corner_BHW)
    canvas_BHW /= _BRIGHTEST
    return canvas_BHW


def pool(labels_N: Labels, split: Split) -> Labels:
    """The digits of a split, rising: four sixths, one and one of every class."""
    first, last = _SIXTHS[split]
    chosen = []
    for label in range(10):
        members = stream(_SEED, label).permutation(np.flatnonzero(labels_N == label))
        chosen.append(members[len(members) * first // 6 : len(members) * last // 6])
    return np.sort(np.concatenate(chosen))


def _pairs(pool_N: Labels, split: Split) -> tuple[Labels, Labels]:
    """Digits for the left and the right, drawn from all pairs without putting back."""
    purpose = 10 + list(_SIXTHS).index(split)  # 0 to 9 are the classes' streams
    drawn_B = stream(_SEED, purpose).choice(len(pool_N) ** 2, size=PAIRS[split], replace=False)
    return pool_N[drawn_B // len(pool_N)], pool_N[drawn_B % len(pool_N)]


def _digits() -> tuple[npt.NDArray[np.float32], Labels]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise VisionError(f"multidigits needs scikit-learn, which has its digits: {install()}") from error
    found = load_digits()
    return found.images.astype(np.float32), found.target.astype(np.int64)
