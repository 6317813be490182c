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

import torch
from torch import Tensor

from experiments_vision.toy.config import ToySettings

LOWER = 5e-6
"""The least argument of the logarithm."""


def _pair(first: float, second: float) -> Tensor:
    return torch.tensor((first, second), dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """Two losses of two parameters, K = P = 2, in float64.

    Attributes:
        bowl: `quadratic` or `sextic`.
        scale_K: What the losses are multiplied with.
        sign_K: The sign of tanh y in f_k.
    """

    bowl: str
    scale_K: Tensor
    sign_K: Tensor

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
        return self.scale_K * (share.clamp(min=0.0) * upper_K + (-share).clamp(min=0.0) * lower_K)

    def losses_and_jacobian(self, theta_P: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [..., K] and their Jacobian [..., K, P] at the points [..., P], by hand: no autograd."""
        x, y = theta_P[..., :1], theta_P[..., 1:]
        bend = y.tanh()
        inside_K = torch.addcmul(torch.add(_SHIFT_K, x, alpha=-0.5), self.sign_K, bend)
        size_K = inside_K.abs()
        upper_K = size_K.clamp(min=LOWER).log().add_(6.0)
        slope_K = torch.where(size_K < LOWER, 0.0, 1.0 / inside_K)

        share = (0.5 * y).tanh()
        above, below = share.clamp(min=0.0), (-share).clamp_(min=0.0)
        # Both shares have the derivative of half a tanh on their side, and none on the other.
        turn = 0.5 * (1.0 - share * share)
        lower_K, lower_dx_K, lower_dy = self._bowl_and_slopes(x, y)
        weighted_K = torch.where(y > 0, upper_K, -lower_K)
        losses_K = self.scale_K * (above * upper_K + below * lower_K)
        dx_K = self.scale_K * (below * lower_dx_K - 0.5 * above * slope_K)
        dy_K = self.scale_K * (
            turn * weighted_K + above * slope_K * self.sign_K * (1.0 - bend * bend) + below * lower_dy
        )
        return losses_K, torch.stack((dx_K, dy_K), dim=-1)

    def _bowl(self, x: Tensor, y: Tensor) -> Tensor:
        if self.bowl == "quadratic":
            return 0.1 * ((x - _CENTRE_K).square() + 0.1 * (y + 8.0).square()) - 20.0
        return _sextic(x - _D_K, x - _E_K) + _sextic(y, y) + 1.5

    def _bowl_and_slopes(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """g_k, dg_k/dx and dg_k/dy, which is the same for both tasks."""
        if self.bowl == "quadratic":
            return self._bowl(x, y), 0.2 * (x - _CENTRE_K), 0.02 * (y + 8.0)
        return self._bowl(x, y), _sextic_slope(x - _D_K, x - _E_K), _sextic_slope(y, y)


_SHIFT_K = _pair(-3.5, 3.5)
_CENTRE_K = _pair(7.0, -7.0)
_D_K, _E_K = _pair(5.45, -5.45), _pair(5.5, -5.5)


def _sextic(six: Tensor, four: Tensor) -> Tensor:
    square_6, square_4 = (six / 4).square(), (four / 4).square()
    return 0.1 * square_6 * square_6 * square_6 - square_4 * (square_4 + 1.5)


def _sextic_slope(six: Tensor, four: Tensor) -> Tensor:
    unit_6, unit_4 = six / 4, four / 4
    square_6 = unit_6.square()
    return 0.15 * square_6 * square_6 * unit_6 - unit_4 * (unit_4.square() + 0.75)
