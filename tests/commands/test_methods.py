"""The table of methods says what the registry knows."""

from __future__ import annotations

import re

from mtrl_surgery.cli.screen import as_word
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
