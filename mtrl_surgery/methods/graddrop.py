"""GradDrop: gradient sign dropout (Chen et al., arXiv 2010.06808).

1. With S = sum_k g_k and A = sum_k |g_k|, Alg. 1's P = (1 + S/A) / 2 exceeds a uniform U just where S > (2U - 1) A.
   Nothing is divided, so a column of zeros has an answer: zero.
2. Alg. 1 drops everything where P = U. Here the negative parts are kept there, so that at P = 0 they always are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.columns import column_chunks
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.options.jacobian import GraddropConfig


class GradDrop(JacobianMethod[GraddropConfig]):
    """Keeps the positive or the negative parts of each coordinate (Alg. 1 on parameter gradients).

    The random number of a coordinate is a hash of its position and of a key that is drawn once a call: it is the
    same on every device, and however the columns are cut: who shows the method only some of the Jacobian's columns
    says where they begin, in `first_column`, and gives every learner's method the same seed.

    Diagnostics: `weights_K`, the scalar nearest to what each gradient was multiplied by: <w_k * g_k, g_k> / |g_k|^2.
    """

    stochastic = True

    def __init__(self, num_tasks: int, config: GraddropConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        if len(config.leak) not in (1, num_tasks):
            raise MethodError(f"graddrop.leak={list(config.leak)!r}: give 1 number or {num_tasks}, one a task")
        self.first_column = 0
        self._leak_K = list(config.leak) * (num_tasks // len(config.leak))
        self._leaky = any(self._leak_K)

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """One draw for every coordinate."""
        key_2 = self._key(jacobian_KP.device)
        leak_K, ones_K = self._leaks(jacobian_KP), jacobian_KP.new_ones(self.num_tasks)
        open_K = 1 - leak_K
        direction_P, fit_K = torch.empty_like(jacobian_KP[0]), torch.zeros_like(leak_K)
        for part, room_KC in column_chunks(jacobian_KP):
            gradient_KC = jacobian_KP[:, part]
            length_KC = torch.abs(gradient_KC, out=room_KC)
            # Products with a vector of ones, which are faster than sums over the leading axis.
            sum_C, length_C = torch.mv(gradient_KC.T, ones_K), torch.mv(length_KC.T, ones_K)
            sign_C = self._signs(sum_C, length_C, key_2, part.start)
            if self._leaky:
                sum_C, length_C = torch.mv(gradient_KC.T, 1 + leak_K), torch.mv(length_KC.T, open_K)
            # The kept part of g is (g + sign |g|) / 2; the leak adds its share of the rest.
            torch.addcmul(sum_C, sign_C, length_C, out=direction_P[part]).mul_(self._factor / 2)
            fit_K.addmv_(length_KC.mul_(gradient_KC), sign_C)
        square_K = gramian_KK.diagonal()
        kept_K = torch.where(square_K == 0, 0.5, (square_K + self.total(fit_K).double()) / (2 * square_K))
        return direction_P, ((leak_K + open_K * kept_K) * self._factor).to(jacobian_KP.dtype)

    @torch.no_grad()
    def feature_direction(self, jacobian_KBZ: Tensor, features_BZ: Tensor) -> Tensor:
        """The published form: signs at the features that all heads read, shared by a batch's samples.

        The sign of a task at a feature is that of the sum over the batch of sign(feature) * gradient; its gradient is
        then kept or dropped in every sample alike (Alg. 1).

        Args:
            jacobian_KBZ: The task losses' gradients by the features, [K, B, ...].
            features_BZ: The features, [B, ...].

        Returns:
            What to back-propagate from the features, [B, ...].
        """
        self._check("jacobian_KBZ", jacobian_KBZ, self.num_tasks, *features_BZ.shape)
        pull_KZ = (features_BZ.sign() * jacobian_KBZ).sum(dim=1)
        flat_KZ = pull_KZ.flatten(start_dim=1)
        sign_Z = self._signs(flat_KZ.sum(dim=0), flat_KZ.abs().sum(dim=0), self._key(flat_KZ.device), 0)
        leak_K1 = self._leaks(flat_KZ)[:, None]
        share_KZ = leak_K1 + (1 - leak_K1) * (flat_KZ * sign_Z > 0)
        shares_K1Z = (share_KZ * self._factor).view_as(pull_KZ).unsqueeze(1)
        self.record(weights_K=share_KZ.mean(dim=1) * self._factor)
        return (shares_K1Z * jacobian_KBZ).sum(dim=0)

    @property
    def _factor(self) -> float:
        return 1.0 if self.config.reduction == "sum" else 1 / self.num_tasks

    def _leaks(self, like: Tensor) -> Tensor:
        return torch.tensor(self._leak_K, dtype=like.dtype).to(like.device, non_blocking=True)

    def _key(self, device: torch.device) -> Tensor:
        """Two 31-bit numbers for this call."""
        return (self.uniform((2,), device) * 2**31).to(torch.int32)

    def _signs(self, sum_C: Tensor, length_C: Tensor, key_2: Tensor, start: int) -> Tensor:
        """1 where the positive parts are kept, -1 where the negative ones are, [C]."""
        gate_C = symmetric_uniform(key_2, self.first_column + start, len(sum_C))
        return (sum_C > gate_C * length_C).to(sum_C.dtype).mul_(2).sub_(1)


def symmetric_uniform(key_2: Tensor, start: int, count: int) -> Tensor:
    """Float32 numbers in [-1, 1), uniform, for the positions `start` to `start + count`: [count], on the key's device.

    Multiplications and shifts over the position with a key before each of two rounds. Everything is exact, so every
    device gives the same numbers; the 24 upper bits are what float32 holds without rounding.

    Args:
        key_2: Two int32 numbers.
        start: The first position.
        count: How many positions.
    """
    bits_C = torch.arange(count, dtype=torch.int32, device=key_2.device)
    spare_C = torch.empty_like(bits_C)
    bits_C.add_((start + 2**31) % 2**32 - 2**31).mul_(-1640531527).add_(key_2[0])
    for shift, factor in ((16, -2048144789), (13, -1028477387)):
        # int32 shifts copy the sign bit; the mask takes the copies away.
        torch.bitwise_right_shift(bits_C, shift, out=spare_C).bitwise_and_(2 ** (32 - shift) - 1)
        bits_C.bitwise_xor_(spare_C).mul_(factor)
        if shift == 16:
            bits_C.bitwise_xor_(key_2[1])
    return bits_C.bitwise_right_shift_(8).to(torch.float32).mul_(2.0**-23)
