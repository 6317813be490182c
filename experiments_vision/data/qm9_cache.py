"""QM9's raw files read once: an .npz of plain arrays, named after what the raw files and their reader are."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from experiments_vision.data.qm9_raw import RAW_FILES, Molecules, missing_files, read_raw
from experiments_vision.data.source import Fault
from experiments_vision.errors import VisionError

_VERSION = b"1"  # of the arrays: another one makes old caches strangers


def load_molecules(root: Path) -> tuple[Molecules | None, list[Fault]]:
    """The molecules of `root/raw`, from `root/processed` if the very same files were read before.

    A folder that may not be written to gets no cache, and stderr says so.

    Returns:
        The molecules, or None if there are faults; and the faults.

    Raises:
        VisionError: for a damaged cache.
    """
    faults = missing_files(root / "raw")
    if faults:
        return None, faults
    cache = root / "processed" / f"qm9_{_fingerprint(root / 'raw')}.npz"
    if cache.is_file():
        return _load(cache), []
    molecules, faults = read_raw(root / "raw")
    if molecules is not None:
        try:
            _save(cache, molecules)
        except OSError as error:
            print(f"qm9: {cache} cannot be written ({error.strerror}): every run reads anew", file=sys.stderr)
    return molecules, faults


def _fingerprint(raw: Path) -> str:
    total = hashlib.sha256(_VERSION)
    for file in RAW_FILES:
        with (raw / file).open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:32]


def _save(cache: Path, molecules: Molecules) -> None:
    cache.parent.mkdir(exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **molecules._asdict())
        partial.replace(cache)  # whole or not at all, also if two runs write it
    finally:
        partial.unlink(missing_ok=True)


def _load(cache: Path) -> Molecules:
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            return Molecules(*(arrays[name] for name in Molecules._fields))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise VisionError(f"{cache}: damaged ({error}); delete it, it will be made again") from error
