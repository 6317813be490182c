"""The list of our packages is one list."""

from __future__ import annotations

import tomllib
from pathlib import Path

from mtrl_surgery import PACKAGES

ROOT = Path(__file__).parents[1]


def test_every_folder_of_code_is_one_of_our_packages() -> None:
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} == {*PACKAGES, "benchmarks", "tests"}


def test_pyproject_installs_and_checks_our_packages() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tool["setuptools"]["packages"]["find"]["include"] == [f"{package}*" for package in PACKAGES]
    assert {*tool["importlinter"]["root_packages"]} == {*PACKAGES, "benchmarks"}
    assert {*tool["mypy"]["files"]} == {*PACKAGES, "benchmarks"}
