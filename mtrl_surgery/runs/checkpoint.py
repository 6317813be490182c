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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

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
from mtrl_surgery.runs.shapes import COUNT, MAPPING, TEXT, Kind, Shape, check

__all__ = ["Checkpoint", "CheckpointError", "CheckpointStore", "RunError", "Segment", "load_checkpoint"]

FORMAT = 2
_ARRAYS, _STATE, _MANIFEST = "arrays.safetensors", "state.json", "manifest.json"
_REPLACED = ".old-"
_FOLDER = re.compile(rf"(?:{re.escape(_REPLACED)})?step-(\d{{1,18}})")
_MANIFEST_BYTES = 4096  # for the check of free space: a few files' entries, a line more for every segment
_SEGMENT_BYTES = 256


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the one at the end and on Ctrl-C and SIGTERM."""

    every: Annotated[int, "vector steps from one checkpoint to the next"] = 10_000
    keep: Annotated[int, "newest whole checkpoints that stay on disk"] = 2

    def validate(self) -> None:
        """Checks every option.

        Raises:
            RunError: A value that makes no sense; names the key and what is allowed.
        """
        for key in ("every", "keep"):
            if getattr(self, key) < 1:
                raise RunError(f"checkpoint.{key}={getattr(self, key)} must be at least 1")


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


@dataclass(frozen=True)
class _Manifest:
    step: int
    about: dict[str, Any]
    files: dict[str, tuple[int, str]]  # name -> size, sha256
    segments: tuple[Segment, ...]


class CheckpointStore:
    """The checkpoints of one run. One process writes it, one call at a time."""

    def __init__(self, folder: Path, keep: int, about: Mapping[str, Any] | None = None) -> None:
        """A store at `folder` that keeps the `keep` newest whole checkpoints.

        Args:
            folder: Where; made by the first save.
            keep: How many.
            about: The run's settings, of plain values; every checkpoint holds them.

        Raises:
            CheckpointError: `keep` is below 1.
        """
        if keep < 1:
            raise CheckpointError(f"keep={keep}: at least 1 checkpoint must be kept")
        self.folder, self.keep, self._about = folder, keep, dict(about or {})
        self._segments = SegmentStore(folder / "replay")

    def save(self, step: int, state: Mapping[str, Any], segments: Sequence[Segment] = ()) -> Path:
        """Writes a checkpoint, then drops old checkpoints and the segments that only they needed.

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
            files = {
                _ARRAYS: write_arrays(temporary / _ARRAYS, arrays),
                _STATE: write_hashed(temporary / _STATE, [tree_text]),
            }
            write_hashed(temporary / _MANIFEST, [_manifest_text(step, files, segments, self._about)])
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
        """Reads and checks one checkpoint and its segments.

        Raises:
            CheckpointError: It is not whole; says which files are missing or corrupt.
        """
        return _load(path, self._segments if path.parent == self.folder else SegmentStore(path.parent / "replay"))

    def write_segment(self, start: int, stop: int, arrays: Mapping[str, Array]) -> Segment:
        """Writes transitions [start, stop) of every task once, for all checkpoints to come.

        Raises:
            CheckpointError: A bad range, a data type that cannot be stored, or no room.
        """
        return self._segments.write(start, stop, arrays)

    def read_segment(self, segment: Segment) -> dict[str, Array]:
        """The arrays of a segment.

        Raises:
            CheckpointError: It is missing or corrupt.
        """
        return self._segments.read(segment)

    def rewind(self, checkpoint: Checkpoint | None) -> None:
        """Forgets every later checkpoint (None: every one), and every segment that is in no checkpoint left.

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
        """Renames a finished folder to its name; the folder that had the name steps aside and is found till then."""
        aside = target.with_name(_REPLACED + target.name)
        if target.exists():
            os.replace(target, aside)
        os.replace(temporary, target)
        sync_folder(self.folder)
        remove(aside)

    def _tidy(self) -> None:
        """Ends what a killed process left undone between the two renames of `_put` or after them."""
        remove_leftovers(self.folder)
        for aside in self.folder.glob(_REPLACED + "*"):
            target = aside.with_name(aside.name.removeprefix(_REPLACED))
            if target.exists():
                remove(aside)
            else:
                os.replace(aside, target)

    def _discard(self, path: Path) -> None:
        """Deletes a checkpoint; it loses its name first, so that a half-deleted one is never found."""
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
            whole += not self._problems(path)
            kept.append(path)
        sync_folder(self.folder)  # segments go only after the checkpoints that need them
        self._drop_segments(kept, pending=True)

    def _drop_segments(self, kept: Sequence[Path], pending: bool) -> None:
        needed: list[Segment] = []
        for path in kept:
            with contextlib.suppress(CheckpointError):  # a torn manifest needs nothing: it cannot be loaded
                needed += _read_manifest(path).segments
        below = max((segment.stop for segment in needed), default=0) if pending else None
        self._segments.drop(needed, below)

    def _problems(self, path: Path) -> list[str]:
        try:
            return _problems(path, _read_manifest(path), self._segments)
        except CheckpointError as error:
            return [str(error)]


def load_checkpoint(path: Path, replay: bool = True) -> Checkpoint:
    """Reads and checks one checkpoint by its folder.

    Args:
        path: A `step-...` folder.
        replay: Whether its replay segments must be whole too; False where only the policy is wanted.

    Raises:
        CheckpointError: It is not whole; says which files are missing or corrupt.
    """
    return _load(path, SegmentStore(path.parent / "replay") if replay else None)


def check_state(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> None:
    """Whether a checkpoint's state has what a program is going to use, each key with its type, or with keys below it.

    Raises:
        CheckpointError: Names the key.
    """
    inside: list[tuple[str, Any, Mapping[str, Any]]] = [("state", checkpoint.state, wanted)]
    while inside:
        place, state, below = inside.pop()
        for key, kind in below.items():
            found = state.get(key)
            if not isinstance(found, dict if isinstance(kind, Mapping) else kind):
                raise CheckpointError(f"{checkpoint.path}: {place}/{key} is a {type(found).__name__}; none of ours")
            if isinstance(kind, Mapping):
                inside.append((f"{place}/{key}", found, kind))


def _load(path: Path, segments: SegmentStore | None) -> Checkpoint:
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


def _problems(path: Path, manifest: _Manifest, segments: SegmentStore | None) -> list[str]:
    checked = (fault(path / name, size, sha256) for name, (size, sha256) in manifest.files.items())
    found = [problem for problem in checked if problem]
    if segments is not None:
        found += [problem for segment in manifest.segments if (problem := segments.problem(segment))]
    return found


def _manifest_text(
    step: int, files: dict[str, tuple[int, str]], segments: Sequence[Segment], about: Mapping[str, Any]
) -> bytes:
    content = {
        "format": FORMAT,
        "step": step,
        "about": about,
        "files": {name: {"size": size, "sha256": sha256} for name, (size, sha256) in files.items()},
        "segments": [asdict(segment) for segment in sorted(segments, key=lambda segment: segment.start)],
    }
    return json.dumps({"sha256": _digest(content), "content": content}, indent=1).encode()


_FILE: Shape = {"size": COUNT, "sha256": TEXT}
_SEGMENT: Shape = {"start": COUNT, "stop": COUNT, **_FILE}
_LIST = Kind(lambda value: type(value) is list and all(type(one) is dict for one in value), "a list of mappings")
_CONTENT: Shape = {"step": COUNT, "about": MAPPING, "files": MAPPING, "segments": _LIST}


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
        if content["files"].keys() != {_ARRAYS, _STATE}:
            raise RunError(f"{file} does not list {_ARRAYS} and {_STATE}")
        for name, entry in content["files"].items():
            check(content["files"], {name: MAPPING}, str(file))
            check(entry, _FILE, f"{file}: {name}", _FILE)
        for segment in content["segments"]:
            check(segment, _SEGMENT, f"{file}: a segment", _SEGMENT)
    except CheckpointError:
        raise
    except RunError as error:
        raise CheckpointError(f"{file} is corrupt: {error}") from error
    return _Manifest(
        step=content["step"],
        about=content["about"],
        files={name: (entry["size"], entry["sha256"]) for name, entry in content["files"].items()},
        segments=tuple(Segment(**{key: segment[key] for key in _SEGMENT}) for segment in content["segments"]),
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _step(path: Path) -> int:
    """As its manifest says; of a torn one, as its name does, which somebody may have changed."""
    match = _FOLDER.fullmatch(path.name)
    assert match, path
    with contextlib.suppress(CheckpointError):
        return _read_manifest(path).step
    return int(match[1])


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
