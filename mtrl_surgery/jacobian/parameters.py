"""One network's parameters as one flat vector, so that clipping, Adam, target updates and shipping weights are one call."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class FlatParameters:
    """P parameters stored in one vector and read through named views.

    Attributes:
        vector_P: the storage; the views alias it, so an in-place step moves them too.
        shapes: name -> shape, in storage order.
    """

    def __init__(self, initial: Mapping[str, Tensor]) -> None:
        self.shapes: dict[str, torch.Size] = {name: value.shape for name, value in initial.items()}
        self.vector_P = torch.cat([value.detach().reshape(-1) for value in initial.values()])
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]

    @property
    def num_parameters(self) -> int:
        """P."""
        return self.vector_P.numel()

    def views(self) -> dict[str, Tensor]:
        """Views of the vector by name; writing into the vector writes into them."""
        return self.split(self.vector_P)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Cut [..., P] into named views [..., *shape] of the same memory."""
        pieces = values.split(self._sizes, dim=-1)
        leading = values.shape[:-1]
        return {
            name: piece.view(*leading, *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def copy(self) -> FlatParameters:
        """The same names and values in memory of their own (a target network)."""
        return FlatParameters(self.views())
