"""Standard output and error, which may go away, and what is said there when something goes wrong.

What cannot be written is dropped, and nobody is killed for it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

from mtrl_surgery import PACKAGES
from mtrl_surgery.runs.console import printable
from mtrl_surgery.shell import activate, install, python


class Dropping(io.RawIOBase):
    """An open file's bytes; from the first that it does not take, all are dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor; `isatty` asks it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        """Never raises."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        if self.failure is None:
            try:
                return os.write(self._descriptor, view)
            except BlockingIOError:
                return len(view)  # a reader that is busy misses this much
            except OSError as error:
                self.failure = error
        return len(view)


def harden() -> Dropping | None:
    """Have the process's own stdout and stderr drop what cannot be written; stdout's descriptor tells whether it did.

    A descriptor that is closed gets the null device: the next file that is opened would get its number, and be written
    what is meant for people. None where stdout is not the process's own: a test's, a notebook's.
    """
    closed = [number for number in range(3) if not _is_open(number)]
    for _ in closed:
        # It takes the lowest number that is free. What this process starts must have it too.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    found = {name: _hardened(name, number) for name, number in (("stdout", 1), ("stderr", 2))}
    if found["stdout"] is not None and 1 in closed:
        found["stdout"].failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
    return found["stdout"]


def _hardened(name: str, descriptor: int) -> Dropping | None:
    stream: TextIO | None = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__"):
        return None
    raw = Dropping(descriptor)
    lines = raw.isatty() or name == "stderr"
    encoding, errors = ("utf-8", "backslashreplace") if stream is None else (stream.encoding, stream.errors)
    if stream is not None:
        stream.flush()
    setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines))
    return raw


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


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
