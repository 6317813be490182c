"""What can be asked wrongly of a report."""

from __future__ import annotations


class ReportError(ValueError):
    """No run where one was said to be, or a key, value or file that makes no sense; the message names it."""
