"""Aligned-MTL: aligning the principal components of the gradients (Senushkin et al., arXiv 2305.19000).

1. The official code adds the aligned gradients up (`reduction=sum`); a fork multiplies that by K once more.
2. Rank: eigenvalues up to K eps times the largest, eps of the Gramian's dtype, count as zero. So gradients shorter than
   about 1e-7 of the longest (float64; 1e-3 in float32) are taken for none.
"""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from mtrl_surgery.methods.arrays import library_of
from mtrl_surgery.methods.options.gramian import AlignedmtlConfig
from mtrl_surgery.methods.preference import preference_weights
from mtrl_surgery.methods.unit_gramian import RoundedGramianWeighting, spoilt


class AlignedMTL(RoundedGramianWeighting[AlignedmtlConfig]):
    """Makes the gradients orthogonal and equally long, as near to themselves as can be, and adds them up (Alg. 1).

    Diagnostics: `condition`, the condition number of the Jacobian without its null space, and `rank`.
    """

    def __init__(self, num_tasks: int, config: AlignedmtlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self._preference_K = preference_weights(config.name, config.preference, num_tasks, config.reduction)

    @numpy.errstate(all="ignore")  # what is not finite spreads, and the learner names it
    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """B w: the balance matrix on the tasks' own weights."""
        library, gramian = library_of(gramian_KK)
        np, bad = library.np, spoilt(gramian)
        eigenvalue_K, vector_KK = np.linalg.eigh(np.where(bad == 0, gramian, 0.0))
        largest = library.at_least(eigenvalue_K[-1], 0.0)
        kept_K = eigenvalue_K > self.num_tasks * self.eps * largest
        rank = kept_K.sum()
        # Ascending, so the kept ones are the last; of an even number of them the lower median, as in the official code.
        place_K = (kept_K * 1).cumsum(0)
        chosen_K = {
            "min": kept_K & (place_K == 1),
            "median": kept_K & (place_K == (rank + 1) // 2),
            "rmse": kept_K,
        }[self.config.scale_mode]
        scale = np.where(chosen_K, eigenvalue_K, 0.0).sum() / library.at_least(chosen_K.sum() * 1.0, 1.0)
        inverse_K = np.where(kept_K, (scale / np.where(kept_K, eigenvalue_K, 1.0)) ** 0.5, 0.0)
        _, preference_K = library_of(self._preference_K.to(gramian_KK.device, non_blocking=True))
        weights_K = vector_KK @ (inverse_K * (preference_K @ vector_KK)) + bad
        smallest = np.where(kept_K, eigenvalue_K, largest).min()
        condition = (largest / np.where(rank == 0, 1.0, smallest)) ** 0.5
        self.record(condition=torch.as_tensor(condition + bad), rank=torch.as_tensor(rank * 1.0))
        return torch.as_tensor(weights_K)
