"""The run folder, which is the truth of a run; only the driver writes it.

    <out>/<run>/{config.yaml, manifest.json, metrics.jsonl, evaluations.jsonl, conflicts.jsonl, health.jsonl,
                 checkpoints/, log.txt}

`metrics`, `evaluations` and `conflicts` hold nothing that depends on the clock or on the machine, so that sync runs of
one configuration have the same bytes; clocks, rates and restarts go to `health`.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from mtrl_surgery.runs.durable import LOCK, TEMPORARY, overwrite_text, remove, take_lock, write_text
from mtrl_surgery.runs.jsonl import JsonlWriter, check_prefix, read_rows
from mtrl_surgery.runs.manifest import ENDINGS, Ending, now, session
from mtrl_surgery.runs.reading import RunError
from mtrl_surgery.runs.shapes import CONFIG, COUNT, MANIFEST, MAPPING, TEXT, Shape, check, read_config, read_manifest

__all__ = ["JsonlWriter", "RunError", "RunFolder", "read_rows"]

LOG = "log.txt"
"""The output of a sweep's run."""

_CUT_BACK = ("metrics", "evaluations", "conflicts")
"""Files whose rows after a checkpoint are forgotten by a resume."""
_PLACE: Shape = {"bytes": COUNT, "sha256": TEXT}
NOTHING: Mapping[str, Any] = {}
"""The positions of a run that begins again."""
_BEFORE_BEGINNING = (CONFIG, LOCK, LOG)
_RUNNING = {"status": "running", "error": None, "finished": None}


class RunFolder:
    """A run on disk. Open for writing it holds the run's lock until `close`; for reading it takes nothing."""

    def __init__(self, path: Path) -> None:
        """Use `create`, `begin` or `open`."""
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, out: Path, name: str, config: Mapping[str, Any]) -> RunFolder:
        """Make the folder of a new run, open for writing; a taken name gets -2, -3, ...

        Args:
            out: The folder of runs; made if it is not there.
            name: The folder's name.
            config: The resolved configuration, of plain values; its `seed` goes into the manifest too.

        Raises:
            RunError: A bad name, a configuration that YAML cannot hold, or a place that cannot be written.
        """
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise RunError(f"name={name!r}: a run's name is one folder name that does not start with a dot")
        text = _yaml(config)
        with _making(out):
            for number in itertools.count(1):
                path = out / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    path.mkdir()  # which decides between two processes
                    break
            return cls._start(path, text, config.get("seed"), new=True)

    @classmethod
    def begin(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a run in exactly this folder, open for writing; an attempt that died before it was a run is forgotten.

        Args:
            path: The folder; made if it is not there.
            config: See `create`.

        Raises:
            RunError: It is a run already, or holds something else, or another process writes it, or it cannot be made.
        """
        text = _yaml(config)
        with _making(path):
            found = sorted(os.listdir(path))
            others = [name for name in found if name not in _BEFORE_BEGINNING and not name.startswith(TEMPORARY)]
            if others:
                raise RunError(f"{path} is not empty and no run folder to begin in: it holds {', '.join(others[:5])}")
            return cls._start(path, text, config.get("seed"), new=not found)

    @classmethod
    def _start(cls, path: Path, text: str, seed: object, new: bool) -> RunFolder:
        """Write the first files; a new folder goes again where that fails."""
        run = cls(path)
        facts = {"run": path.name, "id": uuid.uuid4().hex[:12], "seed": seed}
        try:
            run._lock = take_lock(path)
            write_text(path / CONFIG, text)
            run._write_manifest({**facts, **_RUNNING, **session(), "resumed": []})
        except BaseException:
            run.close()
            if new:
                remove(path)
            raise
        return run

    @classmethod
    def open(cls, path: Path, writable: bool = False, config: Mapping[str, Any] | None = None) -> RunFolder:
        """Open an existing run; writable to resume it, which the manifest notes.

        Args:
            path: The folder.
            writable: Whether to take its lock.
            config: Takes the place of its configuration, where it is opened for writing.

        Raises:
            RunError: It is no run folder (says what is missing, or what is wrong with it), or another process writes
                it, or it cannot be written.
        """
        try:
            found = os.listdir(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(f"{path} is no run folder: there is no such folder") from error
        except OSError as error:
            raise RunError(f"cannot look into {path}: {error.strerror}") from error
        missing = [name for name in (CONFIG, MANIFEST) if name not in found]
        if missing:
            raise RunError(f"{path} is no run folder: {' and '.join(missing)} missing")
        run = cls(path)
        manifest = run.manifest()
        if not writable:
            return run
        run._lock = take_lock(path)
        try:
            if config is not None:
                write_text(path / CONFIG, _yaml(config))
            manifest["resumed"].append(session() | {"before": manifest["status"]})
            run._write_manifest(manifest | _RUNNING)
        except BaseException:
            run.close()
            raise
        return run

    def config(self) -> dict[str, Any]:
        """The resolved configuration; see `read_config`."""
        return read_config(self.path)

    def manifest(self) -> dict[str, Any]:
        """The facts of the run's start, and its status; see `read_manifest`."""
        return read_manifest(self.path)

    def finish(self, status: Ending, error: str | None = None) -> None:
        """Note in the manifest how the run ended, with the error's text if it failed.

        A full disk does not keep a bad end from being noted: the manifest is then overwritten where it lies.
        """
        if status not in ENDINGS:
            raise RunError(f"status={status!r}; choices: {', '.join(ENDINGS)}")
        manifest = self.manifest() | {"status": status, "error": error, "finished": now()}
        try:
            self._write_manifest(manifest)
        except RunError:
            if status == "finished":
                raise
            overwrite_text(self.path / MANIFEST, json.dumps(manifest, indent=2) + "\n")

    @cached_property
    def metrics(self) -> JsonlWriter:
        """Training metrics: rows by step and task."""
        return self._writer("metrics")

    @cached_property
    def evaluations(self) -> JsonlWriter:
        """Evaluations: a row a task, with counts."""
        return self._writer("evaluations")

    @cached_property
    def conflicts(self) -> JsonlWriter:
        """Maps of which tasks' gradients conflict: rows by step and network. The file comes with the first."""
        return self._writer("conflicts")

    @cached_property
    def health(self) -> JsonlWriter:
        """Everything that depends on the clock or the machine."""
        return self._writer("health")

    @property
    def checkpoints(self) -> Path:
        """The folder of a `CheckpointStore`."""
        return self.path / "checkpoints"

    def positions(self) -> dict[str, Any]:
        """How far the files that a resume cuts back are on disk, and their sha256; a checkpoint holds it."""
        writers = {name: getattr(self, name) for name in _CUT_BACK if name != "conflicts" or self._has(name)}
        return {name: {"bytes": own.position(), "sha256": own.sha256()} for name, own in writers.items()}

    def check(self, positions: Mapping[str, Any]) -> None:
        """Check that `rewind` can go back to these positions; change nothing.

        Raises:
            RunError: A file is missing, shorter than it was, or not what it was up to there, or cannot be written.
        """
        for name, (position, sha256) in (_places(positions) | {"health": (0, None)}).items():
            check_prefix(self.path / f"{name}.jsonl", position, sha256)

    def rewind(self, positions: Mapping[str, Any]) -> None:
        """Forget the rows after a checkpoint's `positions`; health stays, it tells what happened.

        All files are checked before any is cut, so that one which cannot be cut leaves the others as they are.

        Raises:
            RunError: See `check`.
        """
        self.check(positions)
        for name, (position, _) in _places(positions).items():
            if name != "conflicts" or self._has(name):
                getattr(self, name).truncate(position)

    def close(self) -> None:
        """Close the files and give the lock back."""
        for name in (*_CUT_BACK, "health"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has(self, name: str) -> bool:
        return name in self.__dict__ or (self.path / f"{name}.jsonl").exists()

    def _writer(self, name: str) -> JsonlWriter:
        self._check_writable()
        return JsonlWriter(self.path / f"{name}.jsonl")

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._check_writable()
        write_text(self.path / MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def _check_writable(self) -> None:
        if self._lock is None:
            raise RunError(f"{self.path} is not open for writing")


@contextmanager
def _making(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; if the block fails, those that were made go again, as far as they are empty."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for one in made:
            with suppress(OSError):
                one.rmdir()
        if isinstance(error, OSError):
            raise RunError(f"out={folder}: cannot make a run folder there: {error.strerror}") from error
        raise


def _places(positions: Mapping[str, Any]) -> dict[str, tuple[int, str | None]]:
    """Bytes and sha256 of each file; a file that has no position had no row."""
    check(positions, dict.fromkeys(_CUT_BACK, MAPPING), "the checkpoint's positions in the run's files")
    found: dict[str, tuple[int, str | None]] = dict.fromkeys(_CUT_BACK, (0, None))
    for name in found.keys() & positions.keys():
        check(positions[name], _PLACE, f"the checkpoint's position in {name}.jsonl", _PLACE)
        found[name] = positions[name]["bytes"], positions[name]["sha256"]
    return found


def is_run(path: Path) -> bool:
    """Whether a run has begun in the folder."""
    return all(os.path.lexists(path / name) for name in (CONFIG, MANIFEST))


def _yaml(config: Mapping[str, Any]) -> str:
    try:
        # Other alphabets are escaped: PyYAML writes some characters (next line, U+0085) as it does not read them.
        return str(yaml.safe_dump(dict(config), sort_keys=False))
    except yaml.YAMLError as error:
        raise RunError(f"the configuration cannot be written: {error}") from error
