"""What holds for every test: threads that leave room for others, and nothing left running."""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.browser import chromium

__all__ = ["chromium"]

# Read when torch, numpy and Ray are first imported, so they must be here before any test imports those.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# How long an example takes says more of what else the machine does; the tests' own time limits stay.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


class OneRay(LoadScopeScheduling):  # type: ignore[misc]
    """Which tests may run at the same time: files, but for those of `tests/cluster`, which come one after the other.

    A file's tests share its fixtures, so they stay in one process. Two Ray clusters at once on a small machine miss the
    time limits that Ray sets itself.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "tests/cluster" if file.startswith("tests/cluster/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneRay:
    """The scheduler of `-n`."""
    return OneRay(config, log)
