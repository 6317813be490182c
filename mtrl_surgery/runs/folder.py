"""The run folder, which is the truth of a run; only the driver writes it.

    <out>/<run>/{config.yaml, manifest.json, metrics.jsonl, evaluations.jsonl, conflicts.jsonl, health.jsonl,
                 checkpoints/, log.txt}

`metrics`, `evaluations` and `conflicts` hold nothing that depends on the clock or on the machine, so that sync runs of
one configuration have the same bytes; clocks, rates and restarts go to `health`.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from mtrl_surgery.runs.durable import TEMPORARY, overwrite_text, remove, write_text
from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.jsonl import JsonlWriter, read_rows
from mtrl_surgery.runs.manifest import ENDINGS, Ending, now, session
from mtrl_surgery.runs.signals import asked_to_end

__all__ = ["JsonlWriter", "RunError", "RunFolder", "read_rows"]

LOG = "log.txt"
"""What the processes of a sweep's run said."""

_CONFIG, _MANIFEST, _LOCK = "config.yaml", "manifest.json", ".lock"
_BEFORE_BEGINNING = (_CONFIG, _LOCK, LOG)


class RunFolder:
    """A run on disk. Open for writing it holds the run's lock until `close`; for reading it takes nothing."""

    def __init__(self, path: Path, lock: int | None) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, out: Path, name: str, config: Mapping[str, Any]) -> RunFolder:
        """Makes the folder of a new run, open for writing; a taken name gets -2, -3, ...

        Args:
            out: Where runs live; made if it is not there.
            name: The folder's name.
            config: The resolved configuration, of plain values; its `seed` goes into the manifest too.

        Raises:
            RunError: A bad name, a configuration that YAML cannot hold, or a place that cannot be written.
        """
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise RunError(f"name={name!r}: a run's name is one folder name that does not start with a dot")
        text = _yaml(config)
        path = _claim(out, name)
        return cls._start(path, text, config, new=True)

    @classmethod
    def begin(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Makes a run in exactly this folder, open for writing; what died there before it was a run is forgotten.

        Args:
            path: The folder; made if it is not there.
            config: See `create`.

        Raises:
            RunError: It is a run already, or holds something else, or another process writes it, or it cannot be made.
        """
        text = _yaml(config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            found = sorted(entry.name for entry in path.iterdir())
        except OSError as error:
            raise RunError(f"{path}: cannot make a run folder there: {error.strerror}") from error
        others = [name for name in found if name not in _BEFORE_BEGINNING and not name.startswith(TEMPORARY)]
        if others:
            raise RunError(f"{path} is not empty and no run folder to begin in: it holds {', '.join(others[:5])}")
        return cls._start(path, text, config, new=not found)

    @classmethod
    def _start(cls, path: Path, text: str, config: Mapping[str, Any], new: bool) -> RunFolder:
        run = cls(path, take_lock(path))
        facts = {"run": path.name, "id": uuid.uuid4().hex[:12], "seed": config.get("seed")}
        standing = {"status": "running", "error": None, "finished": None}
        try:
            write_text(path / _CONFIG, text)
            run._write_manifest({**facts, **standing, **session(), "resumed": []})
        except BaseException:
            run.close()
            if new:
                remove(path)  # it is ours, and no run yet
            raise
        return run

    @classmethod
    def open(cls, path: Path, writable: bool = False) -> RunFolder:
        """Opens an existing run; writable to resume it, which the manifest notes.

        Raises:
            RunError: It is no run folder (says what is missing), or another process writes it.
        """
        missing = [name for name in (_CONFIG, _MANIFEST) if not (path / name).is_file()]
        if not path.is_dir():
            raise RunError(f"{path} is no run folder: there is no such folder")
        if missing:
            raise RunError(f"{path} is no run folder: {' and '.join(missing)} missing")
        if not writable:
            return cls(path, None)
        run = cls(path, take_lock(path))
        manifest = run.manifest()
        manifest["resumed"].append(session() | {"before": manifest["status"]})
        run._write_manifest(manifest | {"status": "running", "error": None, "finished": None})
        return run

    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return _mapping(self.path / _CONFIG, yaml.safe_load)

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Replaces the configuration, where a resume changed keys that leave the run's past as it was.

        Raises:
            RunError: Not open for writing, a configuration that YAML cannot hold, or a disk that takes none.
        """
        self._check_writable()
        write_text(self.path / _CONFIG, _yaml(config))

    def manifest(self) -> dict[str, Any]:
        """What the run was made with, and how it stands."""
        return _mapping(self.path / _MANIFEST, json.loads)

    def finish(self, status: Ending, error: str | None = None) -> None:
        """Notes in the manifest how the run ended.

        Args:
            status: "finished", "interrupted" or "failed".
            error: The error's text if it failed.
        """
        if status not in ENDINGS:
            raise RunError(f"status={status!r}; choices: {', '.join(ENDINGS)}")
        manifest = self.manifest() | {"status": status, "error": error, "finished": now()}
        try:
            self._write_manifest(manifest)
        except RunError:
            if status == "finished":
                raise
            overwrite_text(self.path / _MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def end(self, error: BaseException | None = None) -> None:
        """Notes how the run ended: finished, interrupted by the user's signal, or failed by an error.

        A full disk does not keep it from being noted: the manifest is then overwritten where it lies.

        Args:
            error: What ended it, where it did not finish.
        """
        if error is None or asked_to_end(error):
            self.finish("finished" if error is None else "interrupted")
            return
        kind, text = type(error), str(error)
        self.finish("failed", text if text and kind.__module__ != "builtins" else f"{kind.__name__}: {text}")

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

    def positions(self) -> dict[str, int]:
        """How far the files that a resume cuts back are on disk; a checkpoint holds it."""
        found = {"metrics": self.metrics.position(), "evaluations": self.evaluations.position()}
        return found | ({"conflicts": self.conflicts.position()} if self._has("conflicts") else {})

    def rewind(self, positions: Mapping[str, int]) -> None:
        """Forgets the rows after a checkpoint's `positions`; health stays, it tells what happened.

        Raises:
            RunError: A file is shorter than the checkpoint says, or was changed.
        """
        self.metrics.truncate(positions["metrics"])
        self.evaluations.truncate(positions["evaluations"])
        if self._has("conflicts"):
            self.conflicts.truncate(positions.get("conflicts", 0))  # it came after the checkpoint, if that has none

    def close(self) -> None:
        """Closes the files and gives the lock back."""
        for name in ("metrics", "evaluations", "conflicts", "health"):
            writer = self.__dict__.pop(name, None)
            if writer is not None:
                writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        """Closes at the end of a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def _has(self, name: str) -> bool:
        return name in self.__dict__ or (self.path / f"{name}.jsonl").exists()

    def _writer(self, name: str) -> JsonlWriter:
        self._check_writable()
        return JsonlWriter(self.path / f"{name}.jsonl")

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._check_writable()
        write_text(self.path / _MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def _check_writable(self) -> None:
        if self._lock is None:
            raise RunError(f"{self.path} is not open for writing")


def _claim(out: Path, name: str) -> Path:
    """Makes a folder that nobody else has: `mkdir` decides between two processes."""
    number = 1
    try:
        out.mkdir(parents=True, exist_ok=True)
        while True:
            path = out / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path
    except OSError as error:
        raise RunError(f"out={out}: cannot make a run folder there: {error.strerror}") from error


def is_run(path: Path) -> bool:
    """Whether a run has begun in the folder."""
    return all((path / name).is_file() for name in (_CONFIG, _MANIFEST))


def held_by(path: Path) -> str | None:
    """The process that holds a folder's lock; None where nobody does."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 1000, 0).decode() or "another process"
    finally:
        os.close(descriptor)
    return None


def take_lock(path: Path) -> int:
    """A descriptor that holds a folder's lock. The lock goes with it, so a killed process leaves none behind.

    Raises:
        RunError: another process holds it.
    """
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 1000, 0).decode() or "another process"
        os.close(descriptor)
        raise RunError(f"{path} is being written by {holder}; two processes cannot write one run") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return descriptor


def _yaml(config: Mapping[str, Any]) -> str:
    try:
        # Other alphabets are escaped: PyYAML writes some characters (next line, U+0085) as it does not read them.
        return str(yaml.safe_dump(dict(config), sort_keys=False))
    except yaml.YAMLError as error:
        raise RunError(f"the configuration cannot be written: {error}") from error


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not a mapping")
    return content
