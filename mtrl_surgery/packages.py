"""Our top-level packages."""

from __future__ import annotations

from typing import Final

PACKAGES: Final = ("agents", "cluster", "configs", "envs", "experiments_vision", "mtrl_surgery")
"""What a machine needs to run any of our commands; a test holds pyproject.toml and the cluster's image to it."""
