"""What `check` says of damaged trees, and that training says it too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from experiments_vision.data.report import report
from experiments_vision.data.source import Fault
from experiments_vision.errors import VisionError
from tests.vision.qm9 import trees
from tests.vision.qm9.batches import source

ETHANE = trees.Molecule(["C", "C"], np.zeros((2, 3)), [(1, 2, 1)], [0.0] * 19)  # 9 lines: 5 and 6 atoms, 7 a bond
SDF, CSV, SKIPPED = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"


def two_atoms(root: Path, molecules: int = 3) -> Path:
    return trees.write(root, [ETHANE] * molecules, skipped=(2,))


def faults(root: Path) -> list[tuple[str, str]]:
    """Fatal faults, with paths below root/raw."""
    found = source(root).check()
    return [(fault.path.removeprefix(f"{root / 'raw'}/"), fault.what) for fault in found if fault.fatal]


def test_a_sound_tree_has_no_fault_but_is_smaller_than_published(tmp_path: Path) -> None:
    root = trees.tree(tmp_path)
    assert source(root).check() == [Fault(str(root / "raw" / SDF), "40 molecules; published 133,885", fatal=False)]


@pytest.mark.parametrize("file", [SDF, CSV, SKIPPED])
def test_a_missing_file(tmp_path: Path, file: str) -> None:
    root = trees.tree(tmp_path)
    (root / "raw" / file).unlink()
    assert faults(root) == [(file, "missing")]
    with pytest.raises(VisionError, match=re.escape(f"{root / 'raw' / file}: missing")):
        source(root).dataset("train")


@pytest.mark.parametrize(
    ("line", "text", "place", "what"),
    [
        (10, "gdb_7", 10, "molecule 2: the title is 'gdb_7', but gdb9.sdf.csv has 'gdb_2' there"),
        (13, "  x  1  0  0999 V2000", 13, "molecule 2: no counts of atoms and bonds: '  x  1  0  0999 V2000'"),
        (13, "  2  1  0  0999 V3000", 13, "molecule 2: the counts line does not end in V2000: '  2  1  0  0999 V3000'"),
        (13, " 30  1  0999 V2000", 13, "molecule 2: 30 atoms and 1 bonds; QM9 has molecules of 1 to 29 atoms"),
        (13, "  4  2  0999 V2000", 10, "molecule 2: 9 lines are too few for 4 atoms and 2 bonds"),
        (14, "    0.0x00    0.0000    0.0000 C   0", 14, "molecule 2: no atom: '    0.0x00    0.0000    0.0000 C   0'"),
        (14, "    0.0000    0.0000    0.0000 Si  0", 14, "molecule 2: no atom: '    0.0000    0.0000    0.0000 Si  0'"),
        (
            15,
            "       nan    0.0000    0.0000 C",
            15,
            "molecule 2: no finite position: '       nan    0.0000    0.0000 C'",
        ),
        (16, "  1  z  1", 16, "molecule 2: no bond: '  1  z  1'"),
        (16, "  1  3  1", 16, "molecule 2: a bond of type 1 from atom 1 to 3, of 2 atoms"),
        (16, "  2  2  1", 16, "molecule 2: a bond of type 1 from atom 2 to 2, of 2 atoms"),
        (16, "  1  2  5", 16, "molecule 2: a bond of type 5 from atom 1 to 2, of 2 atoms"),
        (17, "M  CHG", 18, "molecule 2: M  END is missing"),
        (17, "  1  2  1", 17, "molecule 2: neither a property nor M  END behind the bonds: '  1  2  1'"),
    ],
)
def test_a_damaged_record(tmp_path: Path, line: int, text: str, place: int, what: str) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / SDF, line, text)
    assert faults(root) == [(f"{SDF}:{place}", what)]
    with pytest.raises(VisionError, match=re.escape(f"{root / 'raw' / SDF}:{place}: {what}")):
        source(root).dataset("train")


def test_a_missing_terminator_is_seen_where_it_is_missing(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / SDF, 9, None)
    assert faults(root) == [
        (f"{SDF}:9", "molecule 1: no $$$$ behind M  END, but 'gdb_2'"),
        (f"{SDF}:18", "molecule 2: the title is 'gdb_3', but gdb9.sdf.csv has 'gdb_2' there"),
        (CSV, "3 rows, but gdb9.sdf has 2 molecules"),
    ]


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    text = (root / "raw" / SDF).read_text()
    (root / "raw" / SDF).write_text(text[: text.index("gdb_3") + 60])
    assert faults(root) == [(f"{SDF}:19", "molecule 3: the record has no $$$$: the file is cut off")]


def test_an_empty_sdf(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    (root / "raw" / SDF).write_text("")
    assert faults(root) == [
        (CSV, "3 rows, but gdb9.sdf has 0 molecules"),
        (SDF, "no molecules"),
        (f"{SKIPPED}:10", "index 2 is not among the 0 molecules"),
    ]


@pytest.mark.parametrize(
    ("line", "text", "what"),
    [
        (3, "gdb_2,1.0,2.0", "3 columns, not 20"),
        (3, "gdb_2" + ",1.0" * 18 + ",1.o", "could not convert string to float: '1.o'"),
        (3, "gdb_2" + ",1.0" * 18 + ",inf", "a value is not finite"),
        (3, "gdb_2" + ",1.0" * 18 + ",nan", "a value is not finite"),
    ],
)
def test_a_damaged_row(tmp_path: Path, line: int, text: str, what: str) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / CSV, line, text)
    assert faults(root) == [(f"{CSV}:{line}", what)]


def test_another_header(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / CSV, 1, "mol_id,homo,A,B")
    ((place, what),) = faults(root)
    assert place == f"{CSV}:1" and what.startswith("the header is 'mol_id,homo,A,B', not 'mol_id,A,B,C,mu,alpha,")


def test_a_row_that_is_missing(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / CSV, 4, None)
    assert faults(root) == [(CSV, "2 rows, but gdb9.sdf has 3 molecules")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("  4  CC", "index 4 is not among the 3 molecules"),
        ("  0  CC", "index 0 is not among the 3 molecules"),
        ("  -1  CC", "no index: '  -1  CC'"),
        ("", "no index: ''"),
    ],
)
def test_a_damaged_entry(tmp_path: Path, text: str, what: str) -> None:
    root = two_atoms(tmp_path)
    trees.edit(root / "raw" / SKIPPED, 10, text)
    assert faults(root) == [(f"{SKIPPED}:10", what)]


def test_a_list_with_an_entry_twice_or_without_its_end(tmp_path: Path) -> None:
    root = trees.write(tmp_path, [ETHANE] * 4, skipped=(2, 3, 2))
    assert faults(root) == [(f"{SKIPPED}:12", "index 2 was there before")]
    trees.edit(root / "raw" / SKIPPED, 12, None)
    trees.edit(root / "raw" / SKIPPED, 12, None)
    assert faults(root) == [(f"{SKIPPED}:11", "an index where the closing line should be: the file is cut off")]
    (root / "raw" / SKIPPED).write_text("one line\n")
    assert faults(root) == [(SKIPPED, "1 lines, but 9 head the list and one follows it")]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    root = two_atoms(tmp_path)
    raw = (root / "raw" / SDF).read_bytes()
    (root / "raw" / SDF).write_bytes(raw.replace(b"    0.0000", b"\xff\x00\xfe 0.0000", 1))
    ((place, what),) = faults(root)
    assert place == f"{SDF}:5" and what.startswith("molecule 1: no atom:")


def test_many_faults_are_counted(tmp_path: Path) -> None:
    root = two_atoms(tmp_path, molecules=50)
    text = (root / "raw" / SDF).read_text()
    (root / "raw" / SDF).write_text(text.replace("V2000", "V3000"))
    assert len(faults(root)) == 50
    lines = report("qm9", source(root).check(), lines=20).splitlines()
    assert len(lines) == 23 and lines[-1] == "  ... and 30 more"


def test_too_few_molecules_or_nothing_to_learn(tmp_path: Path) -> None:
    few = two_atoms(tmp_path / "few")
    assert faults(few) == [(str(few / "raw"), "qm9: 2 molecules are too few to split; 20 are enough")]
    same = two_atoms(tmp_path / "same", molecules=30)
    with pytest.raises(VisionError, match=r"all training molecules have the same mu, alpha, .*: nothing to learn"):
        source(same).dataset("train")
