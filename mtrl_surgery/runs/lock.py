"""The lock of a folder that one process writes: the system's own, which goes with its holder, however that dies."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.reading import open_regular

LOCK = ".lock"


def held_by(path: Path) -> str | None:
    """The process that holds a folder's lock; None where nobody does.

    Raises:
        RunError: The lock is no file, or cannot be read.
    """
    try:
        descriptor = open_regular(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def take_lock(path: Path) -> int:
    """A descriptor that holds a folder's lock. The lock goes with it, so a killed process leaves none behind.

    Raises:
        RunError: another process holds it, or it is no file or cannot be written.
    """
    lock = path / LOCK
    try:
        # Through a link the holder's name would be written over a file somewhere else.
        descriptor = open_regular(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise RunError(f"cannot open {lock}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise RunError(f"{path} is being written by {holder}; two processes cannot write one run") from error
    except OSError as error:
        os.close(descriptor)
        raise RunError(f"cannot write {lock}: {error.strerror}") from error
    return descriptor


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
