"""Small multi-task models, and the Jacobian by a plain loop over the tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Shared(nn.Module):
    """A trunk of three layers and K heads; regression on K targets."""

    def __init__(self, num_tasks: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(num_tasks))
        self.to(dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        self.x = torch.randn(12, 5, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randn(num_tasks, 12, 1, generator=generator, dtype=torch.float64).to(dtype)

    def losses(self, rows: slice = slice(None)) -> list[Tensor]:
        """Each task's squared error, summed over the rows."""
        features = self.trunk(self.x[rows])
        return self.losses_from(features, rows)

    def losses_from(self, features: Tensor, rows: slice = slice(None)) -> list[Tensor]:
        pairs = zip(self.heads, self.y, strict=True)
        return [(head(features) - y[rows]).square().sum() / len(self.x) for head, y in pairs]

    @property
    def shared(self) -> list[Tensor]:
        return list(self.trunk.parameters())

    @property
    def own(self) -> list[list[Tensor]]:
        return [list(head.parameters()) for head in self.heads]


def loop_jacobian(losses: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """[K, P] by one backward pass a task through everything; zeros where a task does not reach a parameter."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows)


def grads(parameters: Sequence[Tensor]) -> Tensor:
    """All `.grad`s as one vector, zeros where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
