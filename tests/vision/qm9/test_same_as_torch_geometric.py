"""Our reading of the raw files against torch-geometric's own, with the network out of reach."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments_vision.contract import Place
from tests.vision.qm9 import trees
from tests.vision.qm9.batches import source

pytest.importorskip("rdkit")
datasets = pytest.importorskip("torch_geometric.datasets")
transforms = pytest.importorskip("torch_geometric.transforms")

TARGETS = [0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a test of QM9 opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_graphs_and_targets_are_the_same_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    molecules = [trees.grow(rng) for _ in range(30)]
    ring = [(atom, atom % 6 + 1, 4) for atom in range(1, 7)]  # aromatic bonds, as other writers of sdf have them
    hydrogens = [(atom, atom + 6, 1) for atom in range(1, 7)]
    molecules.append(trees.Molecule(["C"] * 6 + ["H"] * 6, rng.normal(size=(12, 3)), ring + hydrogens, [1.5] * 19))
    trees.write(tmp_path / "ours", molecules, skipped=(2, 30))
    trees.write(tmp_path / "theirs", molecules, skipped=(2, 30))
    theirs = datasets.QM9(str(tmp_path / "theirs"), transform=transforms.Distance(norm=False))
    found = source(tmp_path / "ours")
    graphs = {split: found.dataset(split) for split in ("test", "val", "train")}
    order = torch.randperm(len(theirs), generator=torch.Generator().manual_seed(0)).tolist()
    pairs = iter(order)
    for split in ("test", "val", "train"):
        for index in range(len(graphs[split])):
            wanted = theirs[next(pairs)]
            graph, targets = graphs[split][Place(0, index)]
            assert torch.equal(graph.x, wanted.x)
            values_K = targets["targets"] * found.facts["target_std"] + found.facts["target_mean"]
            torch.testing.assert_close(values_K, wanted.y[0, TARGETS], rtol=1e-5, atol=1e-4)
            assert_complete(graph, wanted)
    assert next(pairs, None) is None


def assert_complete(graph: Any, wanted: Any) -> None:
    """Every pair of atoms once each way; with bonds as torch-geometric has them, and its distances everywhere."""
    atoms = len(wanted.x)
    assert graph.edge_index.tolist() == [
        [here for here in range(atoms) for there in range(atoms) if here != there],
        [there for here in range(atoms) for there in range(atoms) if here != there],
    ]
    bonds_nn5 = torch.zeros(atoms, atoms, 5)
    bonds_nn5[wanted.edge_index[0], wanted.edge_index[1]] = wanted.edge_attr
    bonded = bonds_nn5.any(-1)
    found_nn5 = torch.zeros(atoms, atoms, 5)
    found_nn5[graph.edge_index[0], graph.edge_index[1]] = graph.edge_attr
    assert torch.equal(found_nn5[..., :4], bonds_nn5[..., :4])
    assert torch.equal(found_nn5[bonded], bonds_nn5[bonded])
    distances_nn = torch.cdist(wanted.pos.double(), wanted.pos.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(found_nn5[..., 4].double(), distances_nn, rtol=1e-5, atol=1e-5)
