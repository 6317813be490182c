"""What holds for every test: threads that leave room for others, and nothing left running."""

from __future__ import annotations

import os

# Read when torch, numpy and Ray are first imported, so they must be here before any test imports those.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
