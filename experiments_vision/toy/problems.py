"""The two-task problems in closed form: losses and Jacobians of any number of points in a few vector operations.

With theta = (x, y), task k in {1, 2} and s = (+1, -1) (`sign=paper`: (+1, +1)), all problems are

    L_k = scale_k (max(tanh(y / 2), 0) f_k + max(tanh(-y / 2), 0) g_k)
    f_k = log max(|-x / 2 + (-3.5, 3.5)_k + s_k tanh y|, 5e-6) + 6

and differ in the lower half. `quadratic` (CAGrad, arXiv 2110.14048; Nash-MTL, Aligned-MTL, SAM-GS's toy1o):

    g_k = ((x - (7, -7)_k)^2 + (y + 8)^2 / 10) / 10 - 20

`sextic` (SAM-GS's toy2o, arXiv 2506.06130), with d_k = ((5.45, -5.45)_k, 0), e_k = ((5.5, -5.5)_k, 0), and sums over
the two coordinates:

    g_k = 0.1 sum ((theta - d_k) / 4)^6 - sum ((theta - e_k) / 4)^4 - 1.5 sum ((theta - e_k) / 4)^2 + 1.5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments_vision.toy.config import ToySettings

Array = NDArray[np.float64]

LOWER = 5e-6
"""The least argument of the logarithm."""


def _pair(first: float, second: float) -> Tensor:
    return torch.tensor((first, second), dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """Two losses of two parameters, K = P = 2, in float64."""

    bowl: str  # `quadratic` or `sextic`
    scale_K: Tensor  # what the losses are multiplied with
    sign_K: Tensor  # the sign of tanh y in f_k

    @classmethod
    def of(cls, settings: ToySettings) -> Problem:
        """The one that was asked for."""
        return cls(settings.facts.bowl, _pair(*settings.scales), _pair(1.0, 1.0 if settings.sign == "paper" else -1.0))

    def losses(self, theta_P: Tensor) -> Tensor:
        """Losses [..., K] at the points [..., P], for autograd too."""
        x, y = theta_P[..., :1], theta_P[..., 1:]
        inside_K = (-0.5) * x + _SHIFT_K + self.sign_K * y.tanh()
        upper_K = inside_K.abs().clamp(min=LOWER).log() + 6.0
        share = (0.5 * y).tanh()
        lower_K = self._bowl(x, y)
        losses_K: Tensor = self.scale_K * (share.clamp(min=0.0) * upper_K + (-share).clamp(min=0.0) * lower_K)
        return losses_K

    def losses_and_jacobian(self, theta_P: Array) -> tuple[Array, Array]:
        """Losses [..., K] and their Jacobian [..., K, P] at the points [..., P], by hand and in NumPy.

        On a handful of numbers a NumPy call costs a quarter of a Torch call, and no graph is built.
        """
        scale_K, sign_K = self.scale_K.numpy(), self.sign_K.numpy()
        x, y = theta_P[..., :1], theta_P[..., 1:]
        bend, share = np.tanh(y), np.tanh(0.5 * y)
        inside_K = _SHIFT - 0.5 * x + sign_K * bend
        size_K = np.abs(inside_K)
        upper_K = np.log(np.maximum(size_K, LOWER)) + 6.0
        # At the logarithm's floor the slope is zero.
        floored_K = size_K < LOWER
        slope_K = np.where(floored_K, 0.0, 1.0 / np.where(floored_K, 1.0, inside_K))
        lower_K, lower_dx_K, lower_dy = self._bowl_and_slopes(x, y)

        above, below = np.maximum(share, 0.0), np.maximum(-share, 0.0)
        # Both shares have the derivative of tanh(y / 2) on their side, up to the sign, and none on the other. On the
        # axis both count, as in autograd: without them the published start (0, 0) would never move.
        turn_K = 0.5 * (1.0 - share * share) * ((share >= 0) * upper_K - (share <= 0) * lower_K)
        losses_K = scale_K * (above * upper_K + below * lower_K)
        pull_K = above * slope_K
        jacobian_KP = np.empty((*losses_K.shape, 2))
        jacobian_KP[..., 0] = scale_K * (below * lower_dx_K - 0.5 * pull_K)
        jacobian_KP[..., 1] = scale_K * (turn_K + pull_K * sign_K * (1.0 - bend * bend) + below * lower_dy)
        return losses_K, jacobian_KP

    def _bowl(self, x: Tensor, y: Tensor) -> Any:
        if self.bowl == "quadratic":
            off_K, up = x - _CENTRE_K, y + 8.0
            return 0.1 * (off_K * off_K + 0.1 * up * up) - 20.0
        return _sextic(x - _D_K, x - _E_K) + _sextic(y, y) + 1.5

    def _bowl_and_slopes(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """g_k, dg_k/dx and dg_k/dy, which is the same for both tasks."""
        if self.bowl == "quadratic":
            off_K, up = x - _CENTRE, y + 8.0
            return 0.1 * (off_K * off_K + 0.1 * up * up) - 20.0, 0.2 * off_K, 0.02 * up
        six_K, four_K = x - _D, x - _E
        value_K = _sextic(six_K, four_K) + _sextic(y, y) + 1.5
        return value_K, _sextic_slope(six_K, four_K), _sextic_slope(y, y)


_SHIFT_K = _pair(-3.5, 3.5)
_CENTRE_K = _pair(7.0, -7.0)
_D_K, _E_K = _pair(5.45, -5.45), _pair(5.5, -5.5)
_SHIFT, _CENTRE, _D, _E = (constant_K.numpy() for constant_K in (_SHIFT_K, _CENTRE_K, _D_K, _E_K))


def _sextic(six: Any, four: Any) -> Any:
    square_6, square_4 = 0.0625 * six * six, 0.0625 * four * four
    return 0.1 * square_6 * square_6 * square_6 - square_4 * (square_4 + 1.5)


def _sextic_slope(six: Array, four: Array) -> Array:
    square_6, square_4 = 0.0625 * six * six, 0.0625 * four * four
    return 0.0375 * square_6 * square_6 * six - 0.25 * four * (square_4 + 0.75)
