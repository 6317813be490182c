"""Errors of a run's folder."""

from __future__ import annotations


class RunError(ValueError):
    """A run folder, or a file in it, is not what it should be, or cannot be written."""


class CheckpointError(RunError):
    """A checkpoint cannot be written, or is not whole."""
