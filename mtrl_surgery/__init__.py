"""Multi-task reinforcement learning with gradient surgery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mtrl_surgery.reports.frames import load_runs as load_runs
    from mtrl_surgery.surgery import Surgery as Surgery

__version__ = "0.1.0"
PACKAGES: Final = ("agents", "cluster", "configs", "envs", "experiments_vision", "mtrl_surgery")
"""What a machine needs to run any of our commands; a test holds pyproject.toml and the cluster's image to it."""
__all__ = ["Surgery", "__version__", "load_runs"]


def __getattr__(name: str) -> Any:
    """Imports `Surgery`, and torch with it, or `load_runs`, when it is first asked for."""
    if name == "load_runs":
        from mtrl_surgery.reports.frames import load_runs

        return load_runs
    if name == "Surgery":
        from mtrl_surgery.surgery import Surgery

        return Surgery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, also before it was asked for."""
    return sorted({*globals(), *__all__})
