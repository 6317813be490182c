"""How much task gradients fight, read off their Gramian (Yu et al., arXiv 2001.06782, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.methods._common import gradient_norms, magnitude_similarity, pairs


@torch.no_grad()
def conflict_diagnostics(gramian_KK: Tensor) -> dict[str, Tensor]:
    """Float64 measures of conflict, without waiting for the device.

    Args:
        gramian_KK: Inner products of the task gradients, [K, K].

    Returns:
        conflict_rate: Share of pairs with a negative inner product, in [0, 1].
        mean_cosine, least_cosine: Over pairs, in [-1, 1]; a pair with a zero gradient counts as orthogonal.
        magnitude_similarity, least_magnitude_similarity: Over pairs, in [0, 1] (SAM-GS's Psi: the mean, and
            RL's min).
        triad_rate: Share of pairs in what the paper calls the tragic triad, as far as gradients tell: those that meet
            Theorem 2's condition (a), cosine <= -similarity, and can meet (b), curvature l along the gradient >= xi
            times the Lipschitz constant. The constant is at least l, so xi <= 1 is needed. (c) bounds the step size t
            from below, by 2 / (l (1 - xi)) or more; see `curvature`.
        gradient_norm_K: [K].

        With K = 1 there is no pair: conflict rate 0, cosines and similarities 1. A NaN gradient makes NaN of
        every measure that it enters.
    """
    gramian_KK = gramian_KK.double()
    norm_K = gradient_norms(gramian_KK)
    if norm_K.shape[0] == 1:
        one = torch.ones_like(norm_K[0])
        cosine_Q = similarity_Q = one[None]
        conflict_Q = triad_Q = torch.zeros_like(cosine_Q)
    else:
        norms_KK = norm_K[:, None] * norm_K
        cosine_Q = pairs(torch.where(norms_KK == 0, 0.0, gramian_KK / norms_KK))
        similarity_Q = pairs(magnitude_similarity(norm_K))
        conflict_Q = torch.where(cosine_Q.isnan(), cosine_Q, (cosine_Q < 0).double())
        # Definition 4: xi = (1 - cos^2) |a - b|^2 / |a + b|^2, here in units of |a|^2 + |b|^2. Where the one length is
        # zero, the pair's cosine and similarity both count as 0, which is no conflict.
        overlap_Q = cosine_Q * similarity_Q
        bounded_Q = (1 - cosine_Q.square()) * (1 - overlap_Q) <= 1 + overlap_Q
        triad_Q = ((cosine_Q <= -similarity_Q) & (cosine_Q < 0) & bounded_Q).double()
        triad_Q = torch.where(cosine_Q.isnan(), cosine_Q, triad_Q)
    return {
        "conflict_rate": conflict_Q.mean(),
        "mean_cosine": cosine_Q.mean(),
        "least_cosine": cosine_Q.amin(),
        "magnitude_similarity": similarity_Q.mean(),
        "least_magnitude_similarity": similarity_Q.amin(),
        "triad_rate": triad_Q.mean(),
        "gradient_norm_K": norm_K,
    }


MAPS = 64
"""Maps of a network that are kept one by one; see `map_due`."""


@torch.no_grad()
def conflict_map(gramian_KK: Tensor) -> dict[str, Tensor]:
    """Who fights whom: the measures of each pair of tasks, [K, K] in float64, without waiting for the device.

    Args:
        gramian_KK: Inner products of the task gradients, [K, K].

    Returns:
        cosine_KK: In [-1, 1]; 0 with a zero gradient.
        similarity_KK: Magnitude similarity, in [0, 1].
        conflict_KK: 1 where the inner product is negative, else 0; its mean over looks is the share in conflict.

        A NaN gradient makes NaN of its row and column.
    """
    gramian_KK = gramian_KK.double()
    norm_K = gradient_norms(gramian_KK)
    norms_KK = norm_K[:, None] * norm_K
    cosine_KK = torch.where(norms_KK == 0, 0.0, gramian_KK / norms_KK)
    return {
        "cosine_KK": cosine_KK,
        "similarity_KK": magnitude_similarity(norm_K),
        "conflict_KK": torch.where(cosine_KK.isnan(), cosine_KK, (cosine_KK < 0).double()),
    }


@torch.no_grad()
def alignment(gramian_KK: Tensor, inner_K: Tensor, direction_norm: Tensor) -> Tensor:
    """The cosine between a method's direction and each task's gradient, [K] in float64; 0 where either is zero.

    Below 0, a step against the direction raises that task's loss to first order.

    Args:
        gramian_KK: Inner products of the task gradients, [K, K].
        inner_K: Inner products of the task gradients with the direction, [K].
        direction_norm: The norm of that direction, [].
    """
    lengths_K = gradient_norms(gramian_KK.double()) * direction_norm.double()
    return torch.where(lengths_K == 0, 0.0, inner_K.double() / lengths_K)


def map_due(number: int) -> bool:
    """Which of a run's maps are written, so that a long run's log stays small: N maps leave about 64 + 32 log2(N / 64).

    The first 64 are, then every second until the 128th, every fourth until the 256th, and so on.

    Args:
        number: Of the map, from 1.
    """
    return number % (1 << max(0, (number - 1).bit_length() - MAPS.bit_length() + 1)) == 0


def map_row(maps: dict[str, Tensor]) -> dict[str, list[float]]:
    """Maps as lists for a row of a file: what is above the diagonal, row by row, to four digits.

    Args:
        maps: [K, K] each, by names that end in `_KK`, on the CPU.
    """
    return {
        name.removesuffix("_KK"): [round(value, 4) for value in pairs(matrix_KK.double()).tolist()]
        for name, matrix_KK in maps.items()
        if name.endswith("_KK")
    }


class MapSums:
    """Means over looks of the maps of some networks' gradients.

    A pair that is not finite at a look (of a step that a gradient scaler skips, of a task without a loss) is left out
    of that look.

    Args:
        tasks: Their names; of one alone there are no pairs, and no rows.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tuple(tasks)
        self._sums: dict[str, dict[str, Tensor]] = {}  # by network and map, [K, K]; `there`: how many
        self._looks = self._intervals = 0  # since the last rows; that had a look

    @torch.no_grad()
    def add(self, seen: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Adds one look, without waiting for the device.

        Args:
            seen: Measures by network and name; those that end in `_KK` are maps, the others are passed over.
        """
        for network, measures in seen.items():
            maps = {name: value_KK for name, value_KK in measures.items() if name.endswith("_KK")}
            if not maps:
                continue
            there_KK = torch.stack(list(maps.values())).isfinite().all(0)
            found = {name: torch.where(there_KK, value_KK, 0.0) for name, value_KK in maps.items()}
            sums = self._sums.setdefault(network, {})
            for name, value_KK in (found | {"there": there_KK.double()}).items():
                # What a checkpoint gave back lies on the CPU.
                sums[name] = sums[name].to(value_KK.device) + value_KK if name in sums else value_KK
        self._looks += 1

    def rows(self, update: int) -> list[dict[str, Any]]:
        """Rows for conflicts.jsonl, one a network: means since the last rows. To be called once an interval.

        A long run's intervals have rows more and more rarely (`map_due`); their looks go into the next rows.
        """
        if not self._sums or len(self._tasks) < 2:
            return []
        self._intervals += 1
        if not map_due(self._intervals):
            return []
        head = {"update": update, "tasks": list(self._tasks), "looks": self._looks}
        rows = []
        for network, sums in self._sums.items():
            means = {name: (sum_KK / sums["there"]).cpu() for name, sum_KK in sums.items()}
            rows.append({"network": network, **head, **map_row(means)})
        self._sums, self._looks = {}, 0
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        sums = {network: {name: value.clone() for name, value in maps.items()} for network, maps in self._sums.items()}
        return {"sums": sums, "looks": self._looks, "intervals": self._intervals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict`'s value; an empty one, of a checkpoint from before there were maps, starts anew."""
        self._sums = {network: dict(maps) for network, maps in state.get("sums", {}).items()}
        self._looks, self._intervals = state.get("looks", 0), state.get("intervals", 0)
