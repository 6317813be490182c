"""Running commands in this process, as main() does, without the seconds that a new interpreter costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mtrl_surgery.__main__ import main

SMALL = (
    "experiment=smoke",
    "method=ls",
    "total_steps=200",
    "evaluation.every=100",
    "evaluation.final_episodes=1",
    "agent.warmup_steps=50",
    "checkpoint.every=100",
    "log_every=50",
)
"""A run of seconds."""


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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs")
    assert main(["train", *SMALL, f"out={out}"]) == 0
    (path,) = out.iterdir()
    return path
