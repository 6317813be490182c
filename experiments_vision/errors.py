"""The one error of this package for what was asked wrongly (no torch import: the command line reads this)."""

from __future__ import annotations


class VisionError(ValueError):
    """A key, a value or a file that makes no sense; the message names it and the choices."""
