"""GradDrop: gradient sign dropout (Chen et al., arXiv 2010.06808).

1. With S = sum_k g_k and A = sum_k |g_k|, Alg. 1's P = (1 + S/A) / 2 is at least U just where S + (1 - 2U) A >= 0.
   Nothing is divided, so a column of zeros has an answer: zero.
2. Alg. 1 drops everything where P = U. Here the positive parts are kept there, and U is above 0 and at most 1, so that
   what all tasks agree on is always kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mtrl_surgery.methods._common import chunk_width, column_chunks, one_a_task
from mtrl_surgery.methods.base import JacobianMethod, Stochastic
from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.registry import register

_LOOKED_AT, _LOOKS = 2**15, 16
"""Columns that the logged weights are worked out from, and slices that they are taken from, where there are more: all
would be a quarter of the method's cost."""

GOLDEN = -1640531527
"""2^32 over the golden ratio, as an int32: its multiples are spread evenly."""


@dataclass
class GraddropConfig(MethodConfig):
    """GradDrop (arXiv 2010.06808)."""

    name: str = "graddrop"
    leak: list[float] = option([0.0], "share of a gradient that is never dropped, one for all or one a task")  # noqa: RUF009
    reduction: str = option("sum", "sum (paper) or mean of what is kept", choices=("sum", "mean"))

    def __post_init__(self) -> None:
        """Checks every option; a leak is a share.

        Raises:
            MethodError: naming the option, its value and what it may be.
        """
        super().__post_init__()
        if not self.leak or not all(0 <= share <= 1 for share in self.leak):
            raise MethodError(f"{self.name}.leak={list(self.leak)!r}: must be shares, each >= 0 and <= 1")


@register(
    GraddropConfig,
    paper="arXiv 2010.06808",
    summary="keeps in each coordinate only the gradients of one sign, drawn by how much pulls that way",
    traits=("equivariant", "homogeneous"),
    parity="TorchJD, loop",
)
class GradDrop(Stochastic[GraddropConfig], JacobianMethod[GraddropConfig]):
    """Keeps the positive or the negative parts of each coordinate (Alg. 1 on parameter gradients).

    The random number of a coordinate is a hash of its position and of a key that is drawn once a call: it is the
    same on every device, and however the columns are cut: who shows the method only some of the Jacobian's columns
    says where they begin (`set_column_shard`), and gives every learner's method the same seed.

    Diagnostics: `weights_K`, the scalar nearest to what each gradient was multiplied by: <w_k * g_k, g_k> / |g_k|^2.
    Of more than 32,768 columns so many are looked at, spread over the Jacobian.
    """

    leak_K: Tensor

    def __init__(self, num_tasks: int, config: GraddropConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("leak_K", one_a_task("graddrop.leak", config.leak, num_tasks), "task", saved=False)
        self._leaky = any(config.leak)

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """One draw for every coordinate."""
        width = chunk_width(jacobian_KP)
        noise = PositionNoise(self._key(jacobian_KP.device), width)
        leak_K = self.leak_K.to(jacobian_KP, non_blocking=True)
        half_K, open_K = torch.full_like(leak_K, self._factor / 2), 1 - leak_K
        leaky_K, lossy_K = half_K * (1 + leak_K), half_K * open_K
        direction_P, fit_2K = torch.empty_like(jacobian_KP[0]), jacobian_KP.new_zeros(2, self.num_tasks)
        room_3C, columns = jacobian_KP.new_empty(3, width), jacobian_KP.shape[1]
        every = max(1, min(columns // width // _LOOKS, columns // _LOOKED_AT))
        for number, (part, room_KC) in enumerate(column_chunks(jacobian_KP)):
            gradient_KC = jacobian_KP[:, part]
            length_KC = torch.abs(gradient_KC, out=room_KC)
            sum_C, length_C, sign_C = room_3C[:, : length_KC.shape[1]].unbind()
            # Products with a vector are faster than sums over the leading axis, and its scale costs nothing.
            torch.mv(gradient_KC.T, half_K, out=sum_C)
            torch.mv(length_KC.T, half_K, out=length_C)
            kept_signs(noise.at(self.first_column + part.start, len(sum_C)), sum_C, length_C, sign_C)
            if self._leaky:
                torch.mv(gradient_KC.T, leaky_K, out=sum_C)
                torch.mv(length_KC.T, lossy_K, out=length_C)
            # The kept part of g is (g + sign |g|) / 2; the leak adds its share of the rest.
            torch.addcmul(sum_C, sign_C, length_C, out=direction_P[part])
            if number % every == 0:
                self._fit(fit_2K, gradient_KC, length_KC, sign_C, min(1.0, every * _LOOKED_AT / columns))
        signed_K, square_K = self.total(fit_2K).double()
        # What is not finite shows in the weights wherever it is.
        kept_K = torch.where(square_K == 0, 0.5, (1 + signed_K / square_K) / 2) + 0 * gramian_KK.diagonal()
        return direction_P, ((leak_K + open_K * kept_K) * self._factor).to(jacobian_KP.dtype)

    @staticmethod
    def _fit(fit_2K: Tensor, gradient_KC: Tensor, length_KC: Tensor, sign_C: Tensor, share: float) -> None:
        """Adds sum(sign g |g|) and sum(g^2) over a share of the columns: the last, which are still in the cache."""
        looked = slice(int(len(sign_C) * (1 - share)), None)
        length_KC, gradient_KC = length_KC[:, looked], gradient_KC[:, looked]
        fit_2K[1] += torch.linalg.vector_norm(length_KC, dim=1).square()
        fit_2K[0].addmv_(length_KC.mul_(gradient_KC), sign_C[looked])

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
        noise_Z = PositionNoise(self._key(flat_KZ.device), flat_KZ.shape[1]).at(0, flat_KZ.shape[1])
        sign_Z = kept_signs(noise_Z, flat_KZ.sum(dim=0), flat_KZ.abs().sum(dim=0), torch.empty_like(flat_KZ[0]))
        leak_K1 = self.leak_K.to(flat_KZ, non_blocking=True)[:, None]
        share_KZ = leak_K1 + (1 - leak_K1) * (flat_KZ * sign_Z > 0)
        shares_K1Z = (share_KZ * self._factor).view_as(pull_KZ).unsqueeze(1)
        self.record(weights_K=share_KZ.mean(dim=1) * self._factor)
        return (shares_K1Z * jacobian_KBZ).sum(dim=0)

    @property
    def _factor(self) -> float:
        return 1.0 if self.config.reduction == "sum" else 1 / self.num_tasks

    def _key(self, device: torch.device) -> Tensor:
        """Two 31-bit numbers for this call."""
        return (self.uniform((2,), device) * 2**31).to(torch.int32)


def kept_signs(noise_C: Tensor, sum_C: Tensor, length_C: Tensor, room_C: Tensor) -> Tensor:
    """1 where the positive parts are kept, -1 where the negative ones are, [C], in the room.

    Args:
        noise_C: Of the class below; U = (1 - noise / 2^15) / 2.
        sum_C: S, or any positive multiple of it.
        length_C: A times the same.
        room_C: Memory.
    """
    torch.addcmul(sum_C, room_C.copy_(noise_C), length_C, value=2.0**-15, out=room_C)
    # Where the sum is zero it is +0, unless the column is.
    return torch.copysign(room_C.new_ones(()), room_C, out=room_C)


class PositionNoise:
    """Whole numbers in [-2^15, 2^15), uniform, one for each of the positions from 0 to 2^32.

    Multiplications and shifts over half the position, with a key before each of two rounds: 32 bits, for two
    positions. Everything is exact, so every device gives the same numbers.

    Args:
        key_2: Two int32 numbers, drawn (keys that follow each other give numbers that are alike).
        width: The most positions that are asked for at once.
    """

    def __init__(self, key_2: Tensor, width: int) -> None:
        self._first, self._second = key_2.unbind()
        pairs = width // 2 + 1
        self._steps_C = torch.arange(pairs, dtype=torch.int32, device=key_2.device).mul_(GOLDEN)
        self._bits_C, self._spare_C = key_2.new_empty(pairs), key_2.new_empty(pairs)

    def at(self, start: int, count: int) -> Tensor:
        """For the positions `start` to `start + count`: [count], int16, until the next call."""
        odd = start % 2
        pairs = (odd + count + 1) // 2
        bits_C, spare_C = self._bits_C[:pairs], self._spare_C[:pairs]
        begin = (start // 2 * GOLDEN + 2**31) % 2**32 - 2**31  # as int32 wraps
        torch.add(self._steps_C[:pairs], self._first + begin, out=bits_C)
        _mix(bits_C, spare_C, 16, -2048144789)
        _mix(bits_C.bitwise_xor_(self._second), spare_C, 13, -1028477387)
        return bits_C.view(torch.int16)[odd : odd + count]


@cache
def _int32(number: int) -> Tensor:
    """A scalar on the host, for any device; a plain number would be converted at every call, which costs more."""
    return torch.tensor(number, dtype=torch.int32)


def _mix(bits_C: Tensor, spare_C: Tensor, shift: int, factor: int) -> None:
    # int32 shifts copy the sign bit; the mask takes the copies away.
    torch.bitwise_right_shift(bits_C, _int32(shift), out=spare_C).bitwise_and_(_int32(2 ** (32 - shift) - 1))
    bits_C.bitwise_xor_(spare_C).mul_(_int32(factor))
