"""Splits, standardisation, batches, and what is kept of a reading."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from experiments_vision.contract import Place
from experiments_vision.data import qm9
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import make_source
from experiments_vision.errors import VisionError
from tests.vision.qm9 import trees
from tests.vision.qm9.batches import batch, source

pytest.importorskip("torch_geometric")


def targets_of(examples: Any) -> torch.Tensor:
    return torch.stack([examples[Place(0, index)][1]["targets"] for index in range(len(examples))])


def test_the_splits_share_nothing_and_leave_nothing_out(tmp_path: Path) -> None:
    found = make_source(DataConfig("qm9", str(trees.tree(tmp_path, 64, skipped=(1, 5, 9)))))
    assert found.splits() == ("train", "val", "test")
    rows = [targets_of(found.dataset(split)) for split in found.splits()]
    assert [len(row) for row in rows] == [51, 5, 5]  # of 61, held out like 10,000 of 130,831
    assert len(torch.cat(rows).unique(dim=0)) == 61


def test_published_sizes() -> None:
    found = source(Path("/"))
    found._order_M = torch.arange(130_831)
    assert [found._bounds(split) for split in found.splits()] == [(20_000, 130_831), (10_000, 20_000), (0, 10_000)]


def test_targets_are_standardised_by_the_training_split(tmp_path: Path) -> None:
    found = source(trees.tree(tmp_path))
    train_BK = targets_of(found.dataset("train"))
    torch.testing.assert_close(train_BK.mean(0), torch.zeros(11), atol=1e-5, rtol=0)
    torch.testing.assert_close(train_BK.std(0), torch.ones(11))
    assert (targets_of(found.dataset("test")).mean(0).abs() > 1e-2).all()
    assert found.facts["target_std"].shape == found.facts["target_mean"].shape == (11,)


def test_energies_are_in_electronvolt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    molecules = [trees.grow(rng) for _ in range(30)]
    for number, molecule in enumerate(molecules):
        molecule.values = [1.0 + number / 1e3] * 19
    found = source(trees.write(tmp_path, molecules))
    train = found.dataset("train")
    numbers = torch.tensor([float(found._order_M[index]) for index in range(*found._bounds("train"))])
    ratios = found.facts["target_mean"] / (1 + numbers.mean() / 1e3)
    hartree, kcal_mol = 27.211386246, 0.04336414
    wanted = [1, 1, hartree, hartree, 1, hartree, kcal_mol, kcal_mol, kcal_mol, kcal_mol, 1]
    torch.testing.assert_close(ratios, torch.tensor(wanted))
    assert len(train) == 26


def test_limit_shortens_the_splits_and_keeps_the_scale(tmp_path: Path) -> None:
    root = trees.tree(tmp_path)
    whole, limited = source(root), source(root, limit=2)
    for split in whole.splits():
        rows = targets_of(limited.dataset(split))
        assert len(rows) == 2
        assert torch.equal(rows, targets_of(whole.dataset(split))[:2])


def test_no_seed_moves_the_splits(tmp_path: Path) -> None:
    root = trees.tree(tmp_path)
    assert torch.equal(*(targets_of(source(root, seed=seed).dataset("test")) for seed in (0, 7)))


def test_a_batch_is_one_graph(tmp_path: Path) -> None:
    inputs, targets = batch(source(trees.tree(tmp_path)), 4)
    sizes = inputs.ptr.diff()
    assert inputs.num_graphs == 4 and targets["targets"].shape == (4, 11)
    assert inputs.x.shape == (int(sizes.sum()), 11) and inputs.edge_attr.shape == (int((sizes * (sizes - 1)).sum()), 5)
    assert torch.equal(inputs.batch[inputs.edge_index[0]], inputs.batch[inputs.edge_index[1]])
    assert inputs.to("cpu").x.device.type == "cpu"


@pytest.mark.gpu
def test_a_batch_goes_to_the_gpu(tmp_path: Path) -> None:
    inputs, _ = batch(source(trees.tree(tmp_path)), 4)
    pinned = inputs.pin_memory()
    assert pinned.x.is_pinned() and pinned.edge_attr.is_pinned()
    assert pinned.to("cuda", non_blocking=True).edge_index.device.type == "cuda"


@pytest.mark.slow
def test_workers_make_the_same_batches(tmp_path: Path) -> None:
    found = source(trees.tree(tmp_path))
    places = [[Place(0, index) for index in range(start, start + 3)] for start in (0, 3, 6)]

    def batches(workers: int) -> list[Any]:
        loader = DataLoader(found.dataset("train"), batch_sampler=places, collate_fn=found.collate, num_workers=workers)  # type: ignore[arg-type]
        return list(loader)

    for (inputs, targets), (other_inputs, other_targets) in zip(batches(0), batches(1), strict=True):
        assert torch.equal(inputs.edge_attr, other_inputs.edge_attr) and torch.equal(inputs.ptr, other_inputs.ptr)
        assert torch.equal(targets["targets"], other_targets["targets"])


def test_the_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = trees.tree(tmp_path)
    first = targets_of(source(root).dataset("val"))
    assert [path.suffix for path in (root / "processed").iterdir()] == [".npz"]
    reads: list[Path] = []
    read = qm9.read_raw

    def counted(raw: Path, *rest: Any) -> Any:
        reads.append(raw)
        return read(raw, *rest)

    monkeypatch.setattr(qm9, "read_raw", counted)
    assert torch.equal(targets_of(source(root).dataset("val")), first) and not reads
    path = root / "raw" / "gdb9.sdf.csv"
    text = path.read_text()
    row = text.index("gdb_2,")
    path.write_text(text[: row + 6] + "9" + text[row + 6 :])
    source(root).dataset("val")
    assert reads == [root / "raw"] and len(list((root / "processed").iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "pickle", "other"])
def test_a_damaged_or_strange_cache_is_refused(tmp_path: Path, damage: str) -> None:
    root = trees.tree(tmp_path)
    source(root).dataset("val")
    (cache,) = (root / "processed").iterdir()
    if damage == "cut":
        cache.write_bytes(cache.read_bytes()[:-500])
    elif damage == "pickle":
        fields = dict.fromkeys(qm9.Molecules._fields, np.array([{"a": 1}], dtype=object))
        np.savez(cache, allow_pickle=True, **fields)
    else:
        np.savez(cache, pos_N3=np.zeros((3, 3)))
    with pytest.raises(VisionError, match=r"qm9_\w+\.npz: damaged \(.*\); delete it, it will be made again"):
        source(root).dataset("val")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = trees.tree(tmp_path)
    root.chmod(0o500)
    try:
        assert len(source(root).dataset("val")) == 3
    finally:
        root.chmod(0o700)
    assert "cannot be written (Permission denied): every run reads anew" in capsys.readouterr().err


def test_a_file_where_the_cache_should_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = trees.tree(tmp_path)
    (root / "processed").write_text("in the way")
    assert len(source(root).dataset("val")) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_without_torch_geometric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = trees.tree(tmp_path)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    assert not any(fault.fatal for fault in source(root).check())
    with pytest.raises(VisionError, match=r"dataset=qm9: needs torch-geometric .*: .*pip install -e '.*\[qm9\]'"):
        source(root).dataset("train")
