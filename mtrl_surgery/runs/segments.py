"""Replay segments: transitions that are written to disk once and shared by all checkpoints after that."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mtrl_surgery.runs.arrays import Array, bytes_needed, read_arrays, write_arrays
from mtrl_surgery.runs.durable import TEMPORARY, disk_errors, fault, room_for, sync_folder
from mtrl_surgery.runs.errors import CheckpointError

_NAME = re.compile(r"segment-(\d+)-(\d+)\.safetensors")


@dataclass(frozen=True)
class Segment:
    """One file of transitions.

    Attributes:
        start: Transitions per task inserted before the segment's first one.
        stop: The same after its last one; `stop - start` transitions per task are inside.
        size: Bytes of the file.
        sha256: Of the file.
    """

    start: int
    stop: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"segment-{self.start:012d}-{self.stop:012d}.safetensors"


class SegmentStore:
    """A folder of segments. One process writes it, one call at a time."""

    def __init__(self, folder: Path) -> None:
        """A store at `folder`, which is made by the first write."""
        self.folder = folder
        self._sound: dict[tuple[str, str], int] = {}  # (name, sha256) -> modification time when it was checked

    def write(self, start: int, stop: int, arrays: Mapping[str, Array]) -> Segment:
        """Writes transitions [start, stop); a file of the same range is replaced.

        Raises:
            CheckpointError: A bad range, a data type that cannot be stored, or no room.
        """
        if not 0 <= start < stop:
            raise CheckpointError(f"a segment needs 0 <= start < stop, got [{start}, {stop})")
        target = self.folder / Segment(start, stop, 0, "").name
        temporary = target.with_name(TEMPORARY + target.name)
        with room_for(bytes_needed(arrays), target, temporary):
            segment = Segment(start, stop, *write_arrays(temporary, arrays))
            os.replace(temporary, target)
            sync_folder(self.folder)
        self._remember(segment)
        return segment

    def read(self, segment: Segment) -> dict[str, Array]:
        """The arrays of a segment, checked.

        Raises:
            CheckpointError: It is missing or corrupt.
        """
        if problem := self.problem(segment):
            raise CheckpointError(f"{self.folder}: {problem}")
        return read_arrays(self.folder / segment.name)

    def problem(self, segment: Segment) -> str | None:
        """The fault of a segment; None if it is whole. A file is hashed once unless it changes."""
        path = self.folder / segment.name
        known = self._sound.get((segment.name, segment.sha256))
        if known is not None and path.is_file() and path.stat().st_mtime_ns == known:
            return None
        problem = fault(path, segment.size, segment.sha256)
        if problem is None:
            self._remember(segment)
        return problem

    def drop(self, needed: Iterable[Segment], below: int | None = None) -> None:
        """Deletes the segments that are not `needed`.

        Args:
            needed: The segments that stay.
            below: Segments that stop after this transition count stay too: they are written but in no
                checkpoint yet. None: there are no such ones.
        """
        names = {segment.name for segment in needed}
        for path in self.folder.glob("segment-*"):
            match = _NAME.fullmatch(path.name)
            if match and path.name not in names and (below is None or int(match[2]) <= below):
                with disk_errors(path):
                    path.unlink()

    def _remember(self, segment: Segment) -> None:
        self._sound[segment.name, segment.sha256] = (self.folder / segment.name).stat().st_mtime_ns
