"""The table of methods says what the registry knows."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.__main__ import main
from mtrl_surgery.cli.screen import as_word
from mtrl_surgery.commands.methods import page, read_ratios
from mtrl_surgery.methods.registry import METHODS
from tests.commands.conftest import Run


def test_a_row_a_method(run: Run):
    said = run("methods")
    blocks = re.split(r"\n(?=\S)", said.out)[2:]
    rows = {re.split(r"[\s,]", block)[0]: " ".join(block.split()) for block in blocks}
    assert said.code == 0 and list(rows) == list(METHODS)
    assert max(map(len, said.out.splitlines())) <= 100
    for name, entry in METHODS.items():
        for part in (entry.needs, entry.paper, entry.origin, entry.summary):
            assert part in rows[name]
        for alias in entry.aliases:
            assert f", {alias}" in rows[name]
        for option in entry.options:
            assert f"{option.name}=" in rows[name]


def test_the_options_of_a_method(run: Run):
    said = run("methods", "cagrad", "samgs")
    assert said.code == 0
    for name in ("cagrad", "samgs"):
        for option in METHODS[name].options:
            assert f"  {option.name}={as_word(option.default)}" in said.out
            assert option.summary in " ".join(said.out.split())


PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"


def test_the_page_of_all_methods_is_up_to_date():
    assert (PAGES / "README.md").read_text() == page(read_ratios(PAGES / "ratios.csv"), PAGES)


def test_the_page_is_written_from_measured_ratios(run: Run, tmp_path: Path):
    ratios = tmp_path / "ratios.csv"
    words = ["tasks=[2,3]", "methods=[ls,cagrad]", "width=8", "batch=4", "rounds=1", f"csv={ratios}"]
    assert main(["methods", *words]) == 0
    assert run("methods", f"page={tmp_path / 'README.md'}", f"ratios={ratios}").code == 0
    written = (tmp_path / "README.md").read_text()
    assert "| K=2 | K=3 |" in written
    assert f"| {read_ratios(ratios)['cagrad'][3]} |" in written
    assert [line.split("`")[1] for line in written.splitlines() if line.startswith("| `")] == list(METHODS)


def test_ratios_of_another_kind_are_refused(run: Run, tmp_path: Path):
    (tmp_path / "ratios.csv").write_text("a,b\n1,2\n")
    said = run("methods", f"page={tmp_path / 'README.md'}", f"ratios={tmp_path / 'ratios.csv'}")
    assert said.code == 2 and "ratios.csv" in said.err and "benchmarks methods csv=" in said.err
    assert not (tmp_path / "README.md").exists()
