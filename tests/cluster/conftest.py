"""One Ray for all tests of this folder, joined by the collectors as they find it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Read when Ray is first imported: see cluster.workers.session. Clusters in tests have no token, and send nothing home.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Two CPUs on the loopback interface, started as `cluster.kind=local` does."""
    from cluster.config import ClusterConfig
    from cluster.workers.session import RaySession

    session = RaySession(ClusterConfig(kind="local", object_store_mb=100), workers=3)
    yield
    session.close()
