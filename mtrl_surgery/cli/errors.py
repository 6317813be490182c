"""From an exception to one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys

from mtrl_surgery.packages import PACKAGES
from mtrl_surgery.runs.console import printable
from mtrl_surgery.shell import activate, install, python


def report(error: Exception) -> int:
    """Say what is wrong, and return the exit code: 2 what was asked for makes no sense, 1 the run failed.

    Our own exceptions explain themselves: a ValueError blames what was asked for, any other the run. An error that has
    an `exit_code` of its own (a run stopped by a signal) says so itself. One that is not ours is our mistake, and is
    raised again for its traceback; with MTRL_DEBUG=1 every one is.
    """
    debug = os.environ.get("MTRL_DEBUG") == "1"
    if isinstance(error, ModuleNotFoundError) and not debug and (error.name or "").split(".")[0] not in PACKAGES:
        return complain(
            f"{python()} has no package {error.name!r}, which this command needs: {activate()}{install()}", 2
        )
    if debug or type(error).__module__.split(".")[0] not in PACKAGES:
        raise error
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        print(printable(str(error)), file=sys.stderr)
        return code
    asked_wrongly = isinstance(error, ValueError) and not getattr(error, "run_failed", False)
    return complain(str(error), 2 if asked_wrongly else 1)


def complain(message: str, code: int) -> int:
    """Say what is wrong on standard error, and hand the exit code back."""
    print(f"error: {printable(message)}", file=sys.stderr)
    return code
