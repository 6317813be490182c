"""Running the benchmarks' command line in this process."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main
from tests.commands.conftest import Run, caller


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("update", "tasks=3")` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return caller(main, capfd)
