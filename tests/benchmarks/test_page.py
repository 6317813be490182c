"""The page of all methods is made of the registry and of measured ratios."""

from __future__ import annotations

from pathlib import Path

from benchmarks.page import page, read_ratios
from mtrl_surgery.methods.registry import METHODS
from tests.commands.conftest import Run

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"


def test_the_page_of_all_methods_is_up_to_date():
    assert (PAGES / "README.md").read_text() == page(read_ratios(PAGES / "ratios.csv"), PAGES)


def test_the_page_is_written_from_measured_ratios(run: Run, tmp_path: Path):
    ratios = tmp_path / "ratios.csv"
    words = ["tasks=[2,3]", "methods=[ls,cagrad]", "width=8", "batch=4", "rounds=1", f"csv={ratios}"]
    assert run("methods", *words).code == 0
    assert run("page", f"page={tmp_path / 'README.md'}", f"ratios={ratios}").code == 0
    written = (tmp_path / "README.md").read_text()
    assert "| K=2 | K=3 |" in written
    assert f"| {read_ratios(ratios)['cagrad'][3]} |" in written
    assert [line.split("`")[1] for line in written.splitlines() if line.startswith("| `")] == list(METHODS)


def test_ratios_of_another_kind_are_refused(run: Run, tmp_path: Path):
    (tmp_path / "ratios.csv").write_text("a,b\n1,2\n")
    said = run("page", f"page={tmp_path / 'README.md'}", f"ratios={tmp_path / 'ratios.csv'}")
    assert said.code == 2 and "ratios.csv" in said.err and "benchmarks methods csv=" in said.err
    assert not (tmp_path / "README.md").exists()
