"""A network's parameters as one flat vector: clipping, Adam, target updates and shipping are one call each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class FlatParameters:
    """P parameters stored in one vector and read through named views.

    Attributes:
        vector_P: the storage. Views and leaves alias it for good: it is only ever written in place.
        shapes: name -> shape, in storage order.
    """

    def __init__(self, initial: Mapping[str, Tensor], device: torch.device | str | None = None) -> None:
        """Lay the tensors out one behind the other.

        Args:
            initial: name -> values; copied.
            device: where the vector lives; the tensors' own device when not given.
        """
        self.shapes: dict[str, torch.Size] = {name: value.shape for name, value in initial.items()}
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.vector_P = torch.cat([value.detach().reshape(-1) for value in initial.values()]).to(device)
        self._views = self.split(self.vector_P)
        self._leaves: dict[int | None, Tensor] = {}
        self._room: Tensor | None = None

    @property
    def num_parameters(self) -> int:
        """P."""
        return self.vector_P.numel()

    def views(self) -> dict[str, Tensor]:
        """Views of the vector by name; writing into the vector writes into them."""
        return self._views

    def leaf(self, num_tasks: int | None = None) -> Tensor:
        """The vector to differentiate by: theta_P, or theta_KP, K references to the same memory (task stride 0).

        It is made once: an optimizer's in-place step moves it like every view.
        """
        if num_tasks not in self._leaves:
            vector_P = self.vector_P.detach()
            theta = vector_P if num_tasks is None else vector_P.expand(num_tasks, -1)
            self._leaves[num_tasks] = theta.requires_grad_()
        return self._leaves[num_tasks]

    def lend(self, room_KP: Tensor | None) -> None:
        """Offer memory for the next gradient by `leaf(K)`: fresh pages for a large Jacobian cost as much as filling it.

        Only a network that writes its gradient itself (`TaskMLP`) takes it, once.
        """
        self._room = room_KP

    def borrow(self, num_tasks: int) -> Tensor:
        """Memory for a gradient by `leaf(num_tasks)`, [num_tasks, P], not initialised: what was lent, or new."""
        room_KP, self._room = self._room, None
        if room_KP is None:
            return self.vector_P.new_empty(num_tasks, self.num_parameters)
        return room_KP

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Cut [..., P] into named views [..., *shape] of the same memory."""
        pieces = values.split(self._sizes, dim=-1)
        leading = values.shape[:-1]
        return {
            name: piece.view(*leading, *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def copy(self, device: torch.device | str | None = None) -> FlatParameters:
        """The same names and values in memory of their own (a target network, or another device's)."""
        return FlatParameters({name: view.clone() for name, view in self._views.items()}, device)
