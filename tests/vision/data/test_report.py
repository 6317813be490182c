"""The registry, a check's report, and the line of progress."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments_vision.data.registry import DATASETS, DataConfig
from experiments_vision.data.report import is_fatal, report
from experiments_vision.data.source import Fault, make_source, scan
from experiments_vision.errors import VisionError


def test_listing_the_data_sets_loads_no_torch() -> None:
    code = (
        "import sys; from experiments_vision.data.registry import DATASETS as d; print(len(d), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "False"]


def test_every_entry_is_complete() -> None:
    for entry in DATASETS.values():
        assert all((entry.summary, entry.paper, entry.licence, entry.source))


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.needs_data_dir])
def test_a_missing_data_dir(name: str) -> None:
    with pytest.raises(VisionError, match=f"data_dir=null: {name} is read from files"):
        make_source(DataConfig(name=name))


def test_an_unknown_name() -> None:
    with pytest.raises(VisionError, match="dataset=mnist: unknown; choose from nyuv2, cityscapes, celeba, qm9, multid"):
        make_source(DataConfig("mnist"))


def test_a_report_goes_folder_by_folder() -> None:
    faults = [
        Fault("/d/train/label/10.npy", "missing"),
        Fault("/d/train", "4 pictures; published 795", fatal=False),
        Fault("/d/train/label/2.npy", "cut short"),
        Fault("/d/train/label/1.npy", "values 0 to 255", fatal=False),
    ]
    assert report("nyuv2", faults) == (
        "nyuv2: 2 faults, 2 warnings\n"
        "/d: 1 warning\n"
        "  train: warning: 4 pictures; published 795\n"
        "/d/train/label: 2 faults, 1 warning\n"
        "  2.npy: cut short\n"
        "  10.npy: missing\n"
        "  1.npy: warning: values 0 to 255"
    )
    assert is_fatal(faults) and not is_fatal(faults[1:2]) and not is_fatal([])
    assert report("nyuv2", []) == "nyuv2: nothing wrong"


def test_a_long_report_hides_no_folder() -> None:
    faults = [Fault(f"/d/a/{number}.npy", "missing") for number in range(1000)]
    faults += [Fault(f"/d/b/{number}.npy", "missing") for number in range(3)]
    lines = report("nyuv2", faults, lines=20).splitlines()
    assert lines[0] == "nyuv2: 1,003 faults"
    assert [line for line in lines if line.startswith("/")] == ["/d/a: 1,000 faults", "/d/b: 3 faults"]
    assert "  ... and 990 more" in lines
    assert sum(line.endswith("missing") for line in lines) == 13


def test_more_folders_than_lines() -> None:
    lines = report("nyuv2", [Fault(f"/d/{number}/x", "missing") for number in range(100)], lines=10).splitlines()
    assert len(lines) == 1 + 2 * 10 + 1
    assert lines[-1] == "... and 90 more in other folders"


def test_a_scan_keeps_the_order_and_raises_what_a_look_raises() -> None:
    assert scan("x", range(1000), lambda number: number**2, threads=3) == [number**2 for number in range(1000)]
    assert scan("x", [], str) == []
    with pytest.raises(ZeroDivisionError):
        scan("x", [1, 0], lambda number: 1 // number, threads=2)
