"""Running commands in this process, as main() does, without the seconds that a new interpreter costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from mtrl_surgery.__main__ import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("train", "method=ls")` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return caller(main, capfd)


def caller(program: Callable[[tuple[str, ...]], int], capfd: pytest.CaptureFixture[str]) -> Run:
    """What calls a program and answers with what it said."""

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = program(words)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call
