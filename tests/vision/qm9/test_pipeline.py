"""From the raw files to a network that learns, with surgery."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from experiments_vision.contract import Place
from experiments_vision.models.mpnn import MPNN
from experiments_vision.objectives.registry import make_objective
from mtrl_surgery import Surgery
from tests.vision.qm9 import trees
from tests.vision.qm9.batches import source

pytest.importorskip("torch_geometric")


@pytest.mark.parametrize("by_features", [True, False])
def test_the_losses_fall(tmp_path: Path, by_features: bool) -> None:
    found = source(trees.tree(tmp_path, molecules=30))
    train = found.dataset("train")
    places = [[Place(epoch, index) for index in range(8)] for epoch in range(20)]
    loader = DataLoader(train, batch_sampler=places, collate_fn=found.collate)  # type: ignore[arg-type]
    objective = make_objective("qm9", found.facts)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        model = MPNN(objective.tasks, dim=16, max_atoms=20)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)  # at 2e-2 rounding decides where it goes
    surgery = Surgery("pcgrad", num_tasks=11)
    history = []
    for inputs, targets in loader:
        outputs = model(inputs)
        losses = objective.losses(outputs.tasks, targets)
        optimizer.zero_grad()
        surgery.backward(losses, features=outputs.features if by_features else None)
        optimizer.step()
        assert inputs.ptr.diff().max() <= model.max_atoms
        history.append(torch.stack(losses).detach())
    surgery.check()
    assert history[-1].mean() < 0.8 * history[0].mean()
    meter = objective.meter()
    with torch.no_grad():
        for inputs, targets in DataLoader(
            found.dataset("val"), batch_sampler=[[Place(0, 0), Place(0, 1)]], collate_fn=found.collate
        ):  # type: ignore[arg-type]
            meter.update(model(inputs).tasks, targets)
    values = meter.compute()["pooled"]
    assert len(values) == 11 and torch.tensor(list(values.values())).isfinite().all()
