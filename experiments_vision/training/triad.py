"""The tragic triad's third part on any network: how much the losses bend along the step that was taken."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments_vision.models.batchnorm import frozen_statistics
from mtrl_surgery.jacobian.curvature import multi_task_curvature


class Triad:
    """Remembers where the parameters were, so that the step can be measured afterwards."""

    def __init__(self, model: nn.Module) -> None:
        """To be made before the step."""
        self._model = model
        self._names = [name for name, value in model.named_parameters() if value.requires_grad]
        self._before_P = self._flat()

    def curvature(self, losses: Callable[[dict[str, Tensor]], Tensor]) -> dict[str, Tensor]:
        """The multi-task curvature from the remembered parameters to the present ones.

        Args:
            losses: From parameters by name to [K]; the batch's.

        Returns:
            As `multi_task_curvature`.
        """
        shapes = {name: self._model.get_parameter(name).shape for name in self._names}

        def by_vector(theta_P: Tensor) -> Tensor:
            parts = theta_P.split([shape.numel() for shape in shapes.values()])
            return losses({name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)})

        with frozen_statistics(self._model):
            return multi_task_curvature(by_vector, self._before_P, self._flat() - self._before_P)

    @torch.no_grad()
    def _flat(self) -> Tensor:
        return torch.cat([self._model.get_parameter(name).reshape(-1) for name in self._names])
