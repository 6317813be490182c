"""QM9: 11 properties of small molecules (Ramakrishnan et al. 2014), read and split as in Nash-MTL (Navon et al. 2022).

A molecule is the complete graph of its atoms, as in torch-geometric's QM9 example and Nash-MTL's experiment: an edge
says what bond there is, if any, and how far apart the two atoms are.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from experiments_vision.contract import Place, Split, Targets
from experiments_vision.data.qm9_raw import (
    COLUMNS,
    ELEMENTS,
    MAX_ATOMS,
    PUBLISHED_MOLECULES,
    RAW_FILES,
    SDF,
    Molecules,
    missing_files,
    read_raw,
)
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import DataSource, Example, Examples, Fault
from experiments_vision.errors import VisionError
from experiments_vision.tasks import TASKS
from mtrl_surgery.shell import install

if TYPE_CHECKING:
    from torch_geometric.data import Batch

TARGETS = TASKS["qm9"]
"""Columns of the csv, in Nash-MTL's order, that of the model's outputs.

Units: Debye, Bohr^3, eV (homo, lumo), Bohr^2, eV (zpve and the four energies of atomisation), cal/(mol K).
"""
ATOM_FEATURES, EDGE_FEATURES = 11, 5

_HARTREE_EV, _KCAL_MOL_EV = 27.211386246, 0.04336414  # torch-geometric's
_UNITS = dict.fromkeys(("homo", "lumo", "zpve"), _HARTREE_EV) | dict.fromkeys(
    ("u0_atom", "u298_atom", "h298_atom", "g298_atom"), _KCAL_MOL_EV
)
_WHOLE, _HELD = 130_831, 10_000  # molecules, and how many of them Nash-MTL tests on and validates on
_VERSION = b"1"  # of the cache's arrays: another one makes old caches strangers
_SEED = 0  # of the published order; no config changes it, so that all runs are tested alike


class QM9Source(DataSource):
    """The molecules of `<data_dir>/raw/{gdb9.sdf, gdb9.sdf.csv, uncharacterized.txt}`.

    One fixed order of the 130,831 molecules gives the test split (the first 10,000), the validation split (the next
    10,000) and the training split (110,831, as in Nash-MTL's code; the papers say 110k). A smaller set is split in the
    same proportions. Targets are standardised by the whole training split.

    Attributes:
        facts: From the first `dataset` on `target_mean` and `target_std`, [11], in the units of `TARGETS`.
    """

    name = "qm9"
    has_validation = True

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._graphs: _Graphs | None = None
        self._order_M = torch.empty(0, dtype=torch.long)

    def check(self) -> list[Fault]:
        """Read the raw files as training would, and never what was kept of an earlier reading."""
        molecules, faults = read_raw(self.root / "raw")
        if molecules is None:
            return faults
        try:
            self._prepare(molecules)
        except VisionError as error:
            return [Fault(str(self.root / "raw"), str(error))]
        found = len(molecules.values_MC)
        what = f"{found:,} molecules; published {PUBLISHED_MOLECULES:,}"
        return [] if found == PUBLISHED_MOLECULES else [Fault(str(self.root / "raw" / SDF), what, fatal=False)]

    def _examples(self, split: Split) -> Examples:
        """The first call reads all molecules."""
        _torch_geometric()
        if self._graphs is None:
            molecules, faults = load_molecules(self.root)
            self._intact(faults)
            assert molecules is not None  # there are no faults
            self._graphs = self._prepare(molecules)
        numbers = self._limited(range(*self._bounds(split)))
        return _Split(self._graphs, self._order_M[numbers[0] : numbers[-1] + 1])

    @staticmethod
    def collate(examples: list[Example]) -> tuple[Batch, Targets]:
        """One graph of all molecules; `batch.batch` says whose an atom is."""
        batch = _torch_geometric().Batch.from_data_list([inputs for inputs, _ in examples])
        return batch, {"targets": torch.stack([targets["targets"] for _, targets in examples])}

    def _prepare(self, molecules: Molecules) -> _Graphs:
        columns = [COLUMNS.index(name) - 1 for name in TARGETS]
        values_MK = torch.from_numpy(molecules.values_MC[molecules.kept_S][:, columns])
        values_MK = values_MK * torch.tensor([_UNITS.get(name, 1.0) for name in TARGETS])
        self._order_M = torch.randperm(len(values_MK), generator=torch.Generator().manual_seed(_SEED))
        first, end = self._bounds("train")
        if first == 0 or end - first < 2:
            raise VisionError(f"qm9: {len(values_MK):,} molecules are too few to split; 20 are enough")
        train_MK = values_MK[self._order_M[first:end]].double()
        constant_K = (train_MK == train_MK[0]).all(0).tolist()
        if any(constant_K):
            names = [name for name, constant in zip(TARGETS, constant_K, strict=True) if constant]
            raise VisionError(f"qm9: all training molecules have the same {', '.join(names)}: nothing to learn")
        mean_K, std_K = train_MK.mean(0), train_MK.std(0)
        self.facts |= {"target_mean": mean_K.float(), "target_std": std_K.float()}
        return _Graphs(molecules, ((values_MK - mean_K) / std_K).float())

    def _bounds(self, split: Split) -> tuple[int, int]:
        total = len(self._order_M)
        held = min(_HELD, round(total * _HELD / _WHOLE))
        return {"test": (0, held), "val": (held, 2 * held), "train": (2 * held, total)}[split]


class _Graphs:
    """All molecules that are used, ready to be cut out."""

    def __init__(self, molecules: Molecules, targets_MK: Tensor) -> None:
        self.kept_M = molecules.kept_S
        self.targets_MK = targets_MK
        self.first_atom, self.first_bond = molecules.first_atom_M1, molecules.first_bond_M1
        self.x_N11 = torch.from_numpy(_atom_features(molecules))
        self.pos_N3 = torch.from_numpy(molecules.pos_N3)
        self.bonds_L3 = torch.from_numpy(molecules.bonds_L3).long()
        self.pairs = [(~torch.eye(atoms, dtype=torch.bool)).nonzero().T.contiguous() for atoms in range(MAX_ATOMS + 1)]

    def cut(self, molecule: int) -> tuple[Tensor, Tensor, Tensor]:
        """Atoms [n, 11], edges [2, n(n-1)], and edge features [n(n-1), 5]: four bond types, and the distance."""
        place = int(self.kept_M[molecule])
        atoms = slice(int(self.first_atom[place]), int(self.first_atom[place + 1]))
        start_L, end_L, kind_L = self.bonds_L3[int(self.first_bond[place]) : int(self.first_bond[place + 1])].T
        pos_n3 = self.pos_N3[atoms]
        pairs_2E = self.pairs[len(pos_n3)]
        edges_nnF = pos_n3.new_zeros(len(pos_n3), len(pos_n3), EDGE_FEATURES)
        edges_nnF[start_L, end_L, kind_L] = 1.0
        edges_nnF[end_L, start_L, kind_L] = 1.0
        edges_nnF[..., -1] = (pos_n3[None] - pos_n3[:, None]).norm(dim=-1)
        return self.x_N11[atoms], pairs_2E, edges_nnF[pairs_2E[0], pairs_2E[1]]


class _Split(Examples):
    """Graphs in the published order; an epoch changes nothing, for nothing is augmented."""

    def __init__(self, graphs: _Graphs, numbers: Tensor) -> None:
        self._graphs, self._numbers = graphs, numbers
        self._data = _torch_geometric().Data

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Place) -> Example:
        molecule = int(self._numbers[place.index])
        x, edge_index, edge_attr = self._graphs.cut(molecule)
        graph = self._data(x=x, edge_index=edge_index, edge_attr=edge_attr)
        return graph, {"targets": self._graphs.targets_MK[molecule]}


def _atom_features(molecules: Molecules) -> np.ndarray[Any, np.dtype[np.float32]]:
    """torch-geometric's: which element, atomic number, aromatic, sp, sp2, sp3 (never told), hydrogens bonded to it."""
    element_N, bonds = molecules.element_N, molecules.bonds_L3.astype(np.int64)
    molecule_L = np.repeat(np.arange(len(molecules.first_bond_M1) - 1), np.diff(molecules.first_bond_M1))
    start, end = (bonds[:, :2] + molecules.first_atom_M1[molecule_L, None]).T
    x_N11 = np.zeros((len(element_N), ATOM_FEATURES), np.float32)
    for column, number in enumerate(ELEMENTS.values()):
        x_N11[:, column] = element_N == number
    x_N11[:, 5] = element_N
    for here, there in ((start, end), (end, start)):
        x_N11[:, 10] += np.bincount(here, element_N[there] == 1, minlength=len(element_N))
    return x_N11


def _torch_geometric() -> Any:
    try:
        import torch_geometric.data
    except ImportError as error:
        raise VisionError(f"dataset=qm9: needs torch-geometric ({error}): {install('qm9')}") from error
    return torch_geometric.data


def load_molecules(root: Path) -> tuple[Molecules | None, list[Fault]]:
    """The molecules of `root/raw` and no faults, or None and the faults.

    They are kept in `root/processed`, in an .npz named after what the raw files and their reader are; a folder that may
    not be written to gets none, and stderr says so.

    Raises:
        VisionError: for a damaged cache.
    """
    faults = missing_files(root / "raw")
    if faults:
        return None, faults
    cache = root / "processed" / f"qm9_{_fingerprint(root / 'raw')}.npz"
    if cache.is_file():
        return _load(cache), []
    molecules, faults = read_raw(root / "raw")
    if molecules is not None:
        try:
            _save(cache, molecules)
        except OSError as error:
            print(f"qm9: {cache} cannot be written ({error.strerror}): every run reads anew", file=sys.stderr)
    return molecules, faults


def _fingerprint(raw: Path) -> str:
    total = hashlib.sha256(_VERSION)
    for file in RAW_FILES:
        with (raw / file).open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:32]


def _save(cache: Path, molecules: Molecules) -> None:
    cache.parent.mkdir(exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **molecules._asdict())
        partial.replace(cache)  # whole or not at all, also if two runs write it
    finally:
        partial.unlink(missing_ok=True)


def _load(cache: Path) -> Molecules:
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            return Molecules(*(arrays[name] for name in Molecules._fields))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise VisionError(f"{cache}: damaged ({error}); delete it, it will be made again") from error
