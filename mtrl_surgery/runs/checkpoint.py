"""Checkpoints: a folder each, whole or not there; the newest whole one wins.

    checkpoints/step-000012000/{arrays.safetensors, state.json, manifest.json}
    checkpoints/replay/segment-<start>-<stop>.safetensors

The manifest names every file and replay segment with size and sha256, says what the run was made with, and carries a
sha256 of itself. An unfinished file has a `.tmp-` name until it is on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from mtrl_surgery.runs.arrays import Array, bytes_needed, pack, read_arrays, unpack, write_arrays
from mtrl_surgery.runs.durable import (
    TEMPORARY,
    disk_errors,
    fault,
    remove,
    remove_leftovers,
    room_for,
    sync_folder,
    write_hashed,
)
from mtrl_surgery.runs.reading import CheckpointError, RunError, read_mapping
from mtrl_surgery.runs.shapes import COUNT, MAPPING, MAPPINGS, TEXT, Shape, check

__all__ = ["Checkpoint", "CheckpointError", "CheckpointStore", "RunError", "Segment", "load_checkpoint"]

FORMAT = 2
_ARRAYS, _STATE, _MANIFEST = "arrays.safetensors", "state.json", "manifest.json"
_REPLACED = ".old-"
_FOLDER = re.compile(rf"(?:{re.escape(_REPLACED)})?step-(\d{{1,18}})")
_SEGMENT_NAME = re.compile(r"segment-(\d+)-(\d+)\.safetensors")
_MANIFEST_BYTES = 4096  # for the check of free space: a few files' entries, a line more for every segment
_SEGMENT_BYTES = 256


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the one at the end and on Ctrl-C and SIGTERM."""

    every: Annotated[int, "vector steps from one checkpoint to the next"] = 10_000
    keep: Annotated[int, "newest whole checkpoints that stay on disk"] = 2

    def validate(self) -> None:
        """Raise RunError for a value below 1; it names the key."""
        for key in ("every", "keep"):
            if getattr(self, key) < 1:
                raise RunError(f"checkpoint.{key}={getattr(self, key)} must be at least 1")


@dataclass(frozen=True)
class Segment:
    """A file of transitions, written to disk once and shared by all checkpoints after that.

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


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read and checked.

    Attributes:
        step: The vector step after which it was taken.
        state: As given to `CheckpointStore.save`.
        segments: The replay's segments, in order; their arrays come from `CheckpointStore.read_segment`.
        path: Its folder.
        about: The run's settings, as the store was told.
    """

    step: int
    state: dict[str, Any]
    segments: tuple[Segment, ...]
    path: Path
    about: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run. One process writes it, one call at a time."""

    def __init__(self, folder: Path, keep: int, about: Mapping[str, Any] | None = None) -> None:
        """A store at `folder`, made by the first save, that keeps the `keep` newest whole checkpoints.

        Every checkpoint holds `about`, the run's settings as plain values.

        Raises:
            CheckpointError: `keep` is below 1.
        """
        if keep < 1:
            raise CheckpointError(f"keep={keep}: at least 1 checkpoint must be kept")
        self.folder, self.keep, self._about = folder, keep, dict(about or {})
        self._segments = _Segments(folder / "replay")

    def save(self, step: int, state: Mapping[str, Any], segments: Sequence[Segment] = ()) -> Path:
        """Write a checkpoint, then drop old checkpoints and the segments that only they needed.

        A checkpoint of the same step is replaced.

        Args:
            step: Vector steps done.
            state: Nested state, see `mtrl_surgery.runs.arrays.pack`.
            segments: Every replay segment that a resumed run needs.

        Raises:
            CheckpointError: A value that cannot be stored, a segment that is not whole on disk, or no room.
                Older checkpoints are untouched.
        """
        if step < 0:
            raise CheckpointError(f"step={step}: must not be negative")
        if problems := [text for segment in segments if (text := self._segments.problem(segment))]:
            raise CheckpointError(f"cannot save step {step}: " + "; ".join(problems))
        arrays, tree = pack(dict(state))
        tree_text = json.dumps(tree, separators=(",", ":")).encode()
        target = self.folder / f"step-{step:09d}"
        temporary = self.folder / (TEMPORARY + target.name)
        about_bytes = len(json.dumps(self._about, indent=1))
        needed = bytes_needed(arrays) + len(tree_text) + about_bytes + _MANIFEST_BYTES + _SEGMENT_BYTES * len(segments)
        with room_for(needed, target, temporary):
            self._tidy()
            temporary.mkdir()
            written = {
                _ARRAYS: write_arrays(temporary / _ARRAYS, arrays),
                _STATE: write_hashed(temporary / _STATE, [tree_text]),
            }
            content = {
                "format": FORMAT,
                "step": step,
                "about": self._about,
                "files": {name: {"size": size, "sha256": sha256} for name, (size, sha256) in written.items()},
                "segments": [asdict(segment) for segment in sorted(segments, key=lambda segment: segment.start)],
            }
            manifest = json.dumps({"sha256": _digest(content), "content": content}, indent=1)
            write_hashed(temporary / _MANIFEST, [manifest.encode()])
            sync_folder(temporary)
            self._put(temporary, target)
        with disk_errors(target):
            self._prune()
        return target

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, None if there is none; warns of each that is skipped and says why."""
        for path in self._newest_first():
            try:
                return self.load(path)
            except CheckpointError as error:
                warnings.warn(f"skipping a checkpoint that is not whole: {error}", stacklevel=2)
        return None

    def load(self, path: Path) -> Checkpoint:
        """Read and check one checkpoint and its segments; see `load_checkpoint`."""
        return _load(path, self._segments)

    def write_segment(self, start: int, stop: int, arrays: Mapping[str, Array]) -> Segment:
        """Write transitions [start, stop) of every task once, for all checkpoints to come; the same range is replaced.

        Raises:
            CheckpointError: A bad range, a data type that cannot be stored, or no room.
        """
        return self._segments.write(start, stop, arrays)

    def read_segment(self, segment: Segment) -> dict[str, Array]:
        """The arrays of a segment; CheckpointError if it is missing or corrupt."""
        if problem := self._segments.problem(segment):
            raise CheckpointError(f"{self._segments.folder}: {problem}")
        return read_arrays(self._segments.folder / segment.name)

    def rewind(self, checkpoint: Checkpoint | None) -> None:
        """Forget every later checkpoint (None: every one), and every segment that is in no checkpoint left.

        A resumed run calls it before it writes, with the checkpoint it resumes from, which stays whatever its folder
        is called: newer ones are torn, or belong to a future that the run is about to leave.
        """
        with disk_errors(self.folder):
            self._tidy()
            for path in self._newest_first():
                if checkpoint is None or _step(path) > checkpoint.step:
                    self._discard(path)
        kept = [] if checkpoint is None else [checkpoint.path, *self._newest_first()]
        self._drop_segments(kept, pending=False)

    def _put(self, temporary: Path, target: Path) -> None:
        """Rename a finished folder to its name; the folder that had the name steps aside and is found till then."""
        aside = target.with_name(_REPLACED + target.name)
        if target.exists():
            os.replace(target, aside)
        os.replace(temporary, target)
        sync_folder(self.folder)
        remove(aside)

    def _tidy(self) -> None:
        """End what a killed process left undone between the two renames of `_put` or after them."""
        remove_leftovers(self.folder)
        for aside in self.folder.glob(_REPLACED + "*"):
            target = aside.with_name(aside.name.removeprefix(_REPLACED))
            if target.exists():
                remove(aside)
            else:
                os.replace(aside, target)

    def _discard(self, path: Path) -> None:
        """Delete a checkpoint; it loses its name first, so that a half-deleted one is never found."""
        nameless = path.with_name(TEMPORARY + path.name)
        os.replace(path, nameless)
        remove(nameless)

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("*") if _FOLDER.fullmatch(path.name)]
        return sorted(found, key=lambda path: (_step(path), not path.name.startswith(_REPLACED)), reverse=True)

    def _prune(self) -> None:
        whole, kept = 0, []
        for path in self._newest_first():
            if whole == self.keep:
                self._discard(path)
                continue
            with contextlib.suppress(CheckpointError):
                whole += not _problems(path, _read_manifest(path), self._segments)
            kept.append(path)
        sync_folder(self.folder)  # segments go only after the checkpoints that need them
        self._drop_segments(kept, pending=True)

    def _drop_segments(self, kept: Sequence[Path], pending: bool) -> None:
        """Delete the segments that no kept checkpoint needs; those written after the last of them may be `pending`."""
        needed: list[Segment] = []
        for path in kept:
            with contextlib.suppress(CheckpointError):  # a torn manifest needs nothing: it cannot be loaded
                needed += _read_manifest(path).segments
        newest = max((segment.stop for segment in needed), default=0)
        names = {segment.name for segment in needed}
        for path in self._segments.folder.glob("segment-*"):
            match = _SEGMENT_NAME.fullmatch(path.name)
            if match and path.name not in names and not (pending and int(match[2]) > newest):
                with disk_errors(path):
                    path.unlink()


class _Segments:
    """A folder of replay segments; each file is hashed once unless it changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: dict[tuple[str, str], int] = {}  # (name, sha256) -> modification time when it was checked

    def write(self, start: int, stop: int, arrays: Mapping[str, Array]) -> Segment:
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

    def problem(self, segment: Segment) -> str | None:
        """The fault of a segment; None if it is whole."""
        path = self.folder / segment.name
        known = self._sound.get((segment.name, segment.sha256))
        if known is not None and path.is_file() and path.stat().st_mtime_ns == known:
            return None
        problem = fault(path, segment.size, segment.sha256)
        if problem is None:
            self._remember(segment)
        return problem

    def _remember(self, segment: Segment) -> None:
        self._sound[segment.name, segment.sha256] = (self.folder / segment.name).stat().st_mtime_ns


def load_checkpoint(path: Path, replay: bool = True) -> Checkpoint:
    """Read and check one checkpoint by its folder.

    Args:
        path: A `step-...` folder.
        replay: Whether its replay segments must be whole too; False where only the policy is wanted.

    Raises:
        CheckpointError: It is not whole; says which files are missing or corrupt.
    """
    return _load(path, _Segments(path.parent / "replay") if replay else None)


def check_state(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless a state has what a program will use: each key with its type or keys below it."""
    inside: list[tuple[str, Any, Mapping[str, Any]]] = [("state", checkpoint.state, wanted)]
    while inside:
        place, state, below = inside.pop()
        for key, kind in below.items():
            found = state.get(key)
            if not isinstance(found, dict if isinstance(kind, Mapping) else kind):
                raise CheckpointError(f"{checkpoint.path}: {place}/{key} is a {type(found).__name__}; none of ours")
            if isinstance(kind, Mapping):
                inside.append((f"{place}/{key}", found, kind))


class _Manifest(NamedTuple):
    step: int
    about: dict[str, Any]
    files: dict[str, dict[str, Any]]  # name -> size, sha256
    segments: tuple[Segment, ...]


def _load(path: Path, segments: _Segments | None) -> Checkpoint:
    manifest = _read_manifest(path)
    if problems := _problems(path, manifest, segments):
        raise CheckpointError(f"{path} is not whole: " + "; ".join(problems))
    try:
        state = unpack(read_arrays(path / _ARRAYS), read_mapping(path / _STATE, any_text=True))
    except RunError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / _STATE} holds a {type(state).__name__}, not a state")
    return Checkpoint(manifest.step, state, manifest.segments, path, manifest.about)


def _problems(path: Path, manifest: _Manifest, segments: _Segments | None) -> list[str]:
    found = [fault(path / name, **entry) for name, entry in manifest.files.items()]
    if segments is not None:
        found += map(segments.problem, manifest.segments)
    return [problem for problem in found if problem]


_FILE: Shape = {"size": COUNT, "sha256": TEXT}
_SEGMENT: Shape = {"start": COUNT, "stop": COUNT, **_FILE}
_CONTENT: Shape = {"step": COUNT, "about": MAPPING, "files": MAPPING, "segments": MAPPINGS}


def _read_manifest(path: Path) -> _Manifest:
    file = path / _MANIFEST
    if not os.path.isdir(path):  # pathlib raises where a folder above may not be looked into
        raise CheckpointError(f"{path} is no checkpoint: there is no such folder")
    if not os.path.lexists(file):
        raise CheckpointError(f"{path} is no whole checkpoint: {_MANIFEST} is missing")
    try:
        outer = read_mapping(file)
        check(outer, {"content": MAPPING}, str(file), ("content", "sha256"))
        content = outer["content"]
        if outer["sha256"] != _digest(content):
            raise RunError(f"{file}: its sha256 is not the one noted when it was written")
        if content.get("format") != FORMAT:
            raise CheckpointError(f"{file} has format {content.get('format')}; this version reads format {FORMAT}")
        check(content, _CONTENT, str(file), _CONTENT)
        files = content["files"]
        if files.keys() != {_ARRAYS, _STATE}:
            raise RunError(f"{file} does not list {_ARRAYS} and {_STATE}")
        check(files, dict.fromkeys(files, MAPPING), str(file))
        for name, entry in files.items():
            check(entry, _FILE, f"{file}: {name}", _FILE)
        for segment in content["segments"]:
            check(segment, _SEGMENT, f"{file}: a segment", _SEGMENT)
    except CheckpointError:
        raise
    except RunError as error:
        raise CheckpointError(f"{file} is corrupt: {error}") from error
    return _Manifest(
        content["step"],
        content["about"],
        {name: {key: entry[key] for key in _FILE} for name, entry in files.items()},
        tuple(Segment(**{key: segment[key] for key in _SEGMENT}) for segment in content["segments"]),
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _step(path: Path) -> int:
    """The step in its manifest; of a torn one, that in its name, which somebody may have changed."""
    match = _FOLDER.fullmatch(path.name)
    assert match, path
    with contextlib.suppress(CheckpointError):
        return _read_manifest(path).step
    return int(match[1])
