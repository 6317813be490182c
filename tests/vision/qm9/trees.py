"""Small QM9 trees in the published files' format: molecules grown at random, with plausible bonds and positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments_vision.data.qm9_raw import COLUMNS

VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}


@dataclass
class Molecule:
    """Atoms' symbols, positions in Angstrom, bonds as (start, end, type) counted from 1, and the csv's numbers."""

    symbols: list[str]
    pos_n3: np.ndarray
    bonds: list[tuple[int, int, int]]
    values: list[float]


def grow(rng: np.random.Generator) -> Molecule:
    """A chain with branches of up to nine heavy atoms, hydrogens where valences are free."""
    symbols = ["C", *rng.choice(list(VALENCE), size=rng.integers(0, 9), p=[0.6, 0.2, 0.15, 0.05])]
    free = [VALENCE[symbol] for symbol in symbols]
    bonds: list[tuple[int, int, int]] = []
    for atom in range(1, len(symbols)):
        hosts = [host for host in range(atom) if free[host]]
        if not hosts:
            symbols, free = symbols[:atom], free[:atom]
            break
        host = int(rng.choice(hosts))
        kind = int(rng.integers(1, min(free[host], free[atom], 3) + 1))
        bonds.append((host + 1, atom + 1, kind))
        free[host] -= kind
        free[atom] -= kind
    for host, count in enumerate(free):
        for _ in range(count):
            symbols.append("H")
            bonds.append((host + 1, len(symbols), 1))
    pos_n3 = rng.normal(size=(len(symbols), 3)) * 2
    spread = float((pos_n3**2).sum())
    size_C = np.array([len(symbols), len(bonds), *[spread] * 9, *[len(free)] * 8])
    values = size_C + rng.normal(size=len(COLUMNS) - 1)
    return Molecule(symbols, pos_n3, bonds, values.tolist())


def record(name: str, molecule: Molecule) -> str:
    """One entry of gdb9.sdf."""
    lines = [
        name,
        "  -OEChem-03231823243D",
        "",
        f"{len(molecule.symbols):3}{len(molecule.bonds):3}  0     0  0  0  0  0  0999 V2000",
    ]
    for symbol, (x, y, z) in zip(molecule.symbols, molecule.pos_n3, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{start:3}{end:3}{kind:3}  0  0  0  0" for start, end, kind in molecule.bonds]
    return "\n".join([*lines, "M  END", "$$$$", ""])


def write(root: Path, molecules: list[Molecule], skipped: tuple[int, ...] = ()) -> Path:
    """Writes root/raw with these molecules, of which `skipped` (counted from 1) are uncharacterized; returns root."""
    raw = root / "raw"
    raw.mkdir(parents=True)
    names = [f"gdb_{number}" for number in range(1, len(molecules) + 1)]
    (raw / "gdb9.sdf").write_text("".join(map(record, names, molecules)))
    rows = [",".join([name, *map(repr, molecule.values)]) for name, molecule in zip(names, molecules, strict=True)]
    (raw / "gdb9.sdf.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    head = ["=" * 40, *["the molecules below failed a check"] * 6, "Index   SMILES", "-" * 40]
    entries = [f"  {index}   C   C   C" for index in skipped]
    (raw / "uncharacterized.txt").write_text("\n".join([*head, *entries, "-" * 40, ""]))
    return root


def tree(root: Path, molecules: int = 40, skipped: tuple[int, ...] = (3, 17), seed: int = 0) -> Path:
    """A sound tree."""
    rng = np.random.default_rng(seed)
    return write(root, [grow(rng) for _ in range(molecules)], skipped)


def edit(path: Path, line: int, text: str | None) -> None:
    """Replaces a line, counted from 1; None takes it out."""
    lines = path.read_text().split("\n")
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines))
