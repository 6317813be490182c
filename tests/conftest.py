"""What holds for every test: threads that leave room for others, and nothing left running."""

from __future__ import annotations

import os

import pytest

# Read when torch, numpy and Ray are first imported, so they must be here before any test imports those.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what may run at the same time: files, but for those that start Ray, which come one after the other.

    A file's tests share its fixtures, so they stay in one process. Two clusters at once on a small machine miss the
    time limits that Ray sets itself.
    """
    for item in items:
        group = "ray" if item.get_closest_marker("cluster") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
