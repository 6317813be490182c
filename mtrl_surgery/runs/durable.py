"""Files that survive a crash, and the lock of the process that writes them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.reading import CheckpointError, RunError, open_regular

LOCK = ".lock"
TEMPORARY = ".tmp-"
"""Prefix of what was being written; whatever still carries it after a crash is rubbish."""

_BLOCK = 1 << 22
_OUT_OF_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable: a rename is only on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_hashed(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a new file and flush it to disk; return its size in bytes and the sha256 of what the disk was handed."""
    digest, size = hashlib.sha256(), 0
    with open(path, "xb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size += len(part)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def hash_on(digest: Any, descriptor: int, start: int, stop: int) -> int:
    """Give a digest the bytes [start, stop) of an open file; return up to where it got them, less if it is short."""
    while start < stop and (block := os.pread(descriptor, min(_BLOCK, stop - start), start)):
        digest.update(block)
        start += len(block)
    return start


def write_text(path: Path, text: str) -> None:
    """Replace a small text file; a reader at any moment sees the old or the new one, never a part.

    Raises:
        RunError: The disk does not take it; the old file is whole.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        remove(temporary)
        write_hashed(temporary, [text.encode()])
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            remove(temporary)
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def overwrite_text(path: Path, text: str) -> None:
    """Write a small text file over what it holds, for a disk that has no room for a second one.

    Raises:
        RunError: The disk does not take it.
    """
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(text.encode())
            file.truncate()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def remove(path: Path) -> None:
    """Delete a file or a folder that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half-written in `folder`."""
    for path in folder.glob(TEMPORARY + "*"):
        remove(path)


def fault(path: Path, size: int, sha256: str) -> str | None:
    """The fault of a file of known size and hash; None if it is whole."""
    try:
        found = path.stat().st_size
        if found != size:
            return f"{path.name} has {found:,} bytes instead of {size:,}"
        digest, descriptor = hashlib.sha256(), open_regular(path)
        try:
            hash_on(digest, descriptor, 0, size)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != sha256:
            return f"{path.name} is corrupt: its sha256 is not the one noted when it was written"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    except RunError as error:
        return str(error)
    return None


@contextmanager
def disk_errors(target: Path, needed: int = 0) -> Iterator[None]:
    """Turn the disk's errors into a CheckpointError with the file's name and, where room ran out, the room there is."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _OUT_OF_ROOM:
            place = next(folder for folder in (target, *target.parents) if folder.exists())
            reason = _no_room(reason, needed, shutil.disk_usage(place).free)
        raise CheckpointError(f"cannot write {target}: {reason}") from error


@contextmanager
def room_for(needed: int, target: Path, temporary: Path) -> Iterator[None]:
    """Guard the writing of `target` through `temporary`: enough room before, no rubbish after a failure.

    Args:
        needed: Bytes about to be written.
        target: The name that the message gives; its folder is made, and leftovers in it are removed.
        temporary: Removed if the writing fails for any reason (Ctrl-C too).

    Raises:
        CheckpointError: The disk is too full, or says so half-way (quota, file size limit, input/output error).
    """
    with disk_errors(target, needed):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        free = shutil.disk_usage(target.parent).free
        if needed > free:
            raise CheckpointError(f"cannot write {target}: " + _no_room("no space left on device", needed, free))
        try:
            yield
        except BaseException:
            remove(temporary)
            raise


def _no_room(reason: str, needed: int, free: int) -> str:
    return f"{reason} ({needed:,} bytes needed, {free:,} bytes free)"


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
    except OSError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise RunError(f"{path} is being written by {holder}; two processes cannot write one run") from error
        raise RunError(f"cannot write {lock}: {error.strerror}") from error
    return descriptor


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
