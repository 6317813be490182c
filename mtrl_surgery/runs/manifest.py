"""The facts of a run's start: versions, revision, machine, seed, command line."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from mtrl_surgery.devices import count_cores

Ending = Literal["finished", "interrupted", "failed"]
ENDINGS: tuple[Ending, ...] = ("finished", "interrupted", "failed")
"""How a run can end; until then, and for ever if it is killed, its status is "running"."""

PACKAGES = ("mtrl-surgery", "torch", "ray", "metaworld", "mujoco", "gymnasium", "numpy", "safetensors", "hydra-core")


def now() -> str:
    """The time of day in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def session() -> dict[str, Any]:
    """The facts of one stay at the machine: a start or a resume of a run."""
    return {
        "started": now(),
        "command": list(sys.orig_argv),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": count_cores(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": git_revision(Path(__file__)),
    }


def git_revision(file: Path) -> dict[str, Any] | None:
    """The revision that tracks `file` and whether there are uncommitted changes; None without git."""
    folder = file.parent
    if _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None  # an installed package, which may lie inside somebody else's repository
    revision = _git(folder, "rev-parse", "HEAD")
    return {"revision": revision, "dirty": bool(_git(folder, "status", "--porcelain"))}


def _processor() -> str:
    """The processor's name; with its family and model where the system tells: virtual machines hide the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key.removeprefix('cpu ')} {told[key]}" for key in ("cpu family", "model", "stepping") if key in told]
    name = told.get("model name", platform.machine())
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no repository here: a package installed from a wheel has none
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
