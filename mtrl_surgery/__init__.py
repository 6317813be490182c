"""Multi-task reinforcement learning with gradient surgery."""

from __future__ import annotations

__version__ = "0.1.0"
