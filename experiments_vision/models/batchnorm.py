"""A training pass that leaves no trace in batch norm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes within normalise by the batch as training does, but leave the running statistics as they are.

    For passes that only look, such as FAMO's second one: with it, published code moves the statistics twice a step. A
    model in evaluation mode is not changed by a pass anyway and still uses its running statistics.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
