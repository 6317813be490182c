"""The example runs as it is printed, and learns."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "library.py"


@pytest.mark.parametrize("method", ["samgs", "famo"])
def test_the_example_lowers_every_loss(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--method", method, "--steps", "60"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    first, last = ([float(number) for number in line.split()[3:6]] for line in (lines[0], lines[-1]))
    assert all(after < before for before, after in zip(first, last, strict=True))


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
