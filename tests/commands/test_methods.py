"""The table of methods says what the registry knows."""

from __future__ import annotations

from mtrl_surgery.methods.registry import METHODS
from tests.commands.conftest import Run


def test_a_row_a_method(run: Run):
    said = run("methods")
    rows = {line.split()[0]: line for line in said.out.splitlines()[2:]}
    assert said.code == 0 and list(rows) == list(METHODS)
    for name, entry in METHODS.items():
        for part in (entry.needs, entry.paper, entry.origin, entry.summary):
            assert part in rows[name]
        for option in entry.options:
            assert f"{option.name}=" in rows[name]


def test_the_options_of_a_method(run: Run):
    said = run("methods", "cagrad", "samgs")
    assert said.code == 0
    for name in ("cagrad", "samgs"):
        for option in METHODS[name].options:
            assert f"  {option.name} " in said.out and option.summary in said.out and str(option.default) in said.out
