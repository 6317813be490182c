"""Running commands of `python -m experiments_vision` in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from experiments_vision.__main__ import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("train", "method=ls")` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call
