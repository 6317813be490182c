"""The networks that are timed, each with its losses on a batch of noise in the published layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.contract import MultiTaskModel, Objective, Targets
from experiments_vision.models.registry import make_model
from experiments_vision.objectives.registry import make_objective
from mtrl_surgery.jacobian.shared_graph import loss_edges, walk
from mtrl_surgery.jacobian.shared_roles import Roles, find_roles


@dataclass
class Case:
    """A network with a batch.

    Attributes:
        model: In train mode.
        objective: Whose losses.
        inputs, targets: The batch.
        by_features: Whether all shared parameters are behind the model's features; where they are not, only methods
            that weight the tasks work there.
    """

    model: MultiTaskModel
    objective: Objective
    inputs: Tensor
    targets: Targets
    by_features: bool

    def forward(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The losses of one pass, and the features."""
        outputs = self.model(self.inputs)
        return self.objective.losses(outputs.tasks, self.targets), outputs.features

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.objective.tasks)

    def roles(self) -> Roles:
        """Which parameters the tasks share, and which are their own."""
        losses, _ = self.forward()
        edges = [edge for _, edge, _ in loss_edges(losses, self.num_tasks)]
        return find_roles(walk(edges), range(self.num_tasks), self.num_tasks, None, None, None)


def _faces(generator: torch.Generator, batch: int, height: int, width: int, tasks: int) -> tuple[Tensor, Targets]:
    labels_BK = torch.randint(0, 2, (batch, tasks), generator=generator).float()
    return torch.rand(batch, 3, height, width, generator=generator), {"attributes": labels_BK}


def _rooms(generator: torch.Generator, batch: int, height: int, width: int, tasks: int) -> tuple[Tensor, Targets]:
    normal = F.normalize(torch.randn(batch, 3, height, width, generator=generator), dim=1)
    return torch.rand(batch, 3, height, width, generator=generator), {
        "label": torch.randint(-1, 13, (batch, height, width), generator=generator),
        "depth": torch.rand(batch, 1, height, width, generator=generator) + 0.1,
        "normal": normal,
    }


@dataclass(frozen=True)
class CaseEntry:
    """A case before it is made: names, the published image, the batch that a CPU can take."""

    dataset: str
    network: str
    size: tuple[int, int]
    batch: int
    by_features: bool
    draw: Callable[[torch.Generator, int, int, int, int], tuple[Tensor, Targets]]


CASES: dict[str, CaseEntry] = {
    "mtan": CaseEntry("nyuv2", "mtan", (288, 384), 1, False, _rooms),
    "segnet": CaseEntry("nyuv2", "segnet", (288, 384), 1, True, _rooms),
    "celeba": CaseEntry("celeba", "convnet", (64, 64), 8, True, _faces),
}


def make_case(name: str, batch: int | None, size: tuple[int, int] | None, device: str) -> Case:
    """A case of `CASES`, always with the same numbers.

    Args:
        name: Its name.
        batch: Images; None for the case's own number.
        size: Height and width; None for the published ones.
        device: Where.

    Raises:
        VisionError: in the first forward pass, for a size that the network cannot take.
    """
    entry = CASES[name]
    model: nn.Module = make_model(entry.network, entry.dataset, 0).to(device)
    objective = make_objective(entry.dataset)
    height, width = size or entry.size
    generator = torch.Generator().manual_seed(0)
    inputs, targets = entry.draw(generator, batch or entry.batch, height, width, len(objective.tasks))
    assert isinstance(model, MultiTaskModel)
    moved = {key: value.to(device) for key, value in targets.items()}
    return Case(model.train(), objective, inputs.to(device), moved, entry.by_features)
