"""The launch files, and the train commands in them and in their pages, as the tests of launches read them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LAUNCH = REPOSITORY / "cluster" / "launch"
PAGES = REPOSITORY / "docs" / "launch"
RAY = "2.60.0"
"""The Ray version that the launch files install on every node."""

_COMMAND = re.compile(r"(?:python -m mtrl_surgery train|start\.sh|submit\.sh|slurm\.sbatch)[ \t]+(?P<words>[^`'\n]*)")


def train_commands(text: str) -> Iterator[list[str]]:
    """The words after `train` of every command that trains: spelled out, or by a script that takes OUT first."""
    for match in _COMMAND.finditer(re.sub(r"\\\n\s*", " ", text)):
        words = shlex.split(match["words"], comments=True)
        if "KEY=VALUE" in match["words"] or "$" in match["words"] or not any("=" in word for word in words):
            continue  # a usage line, or a script's own variables, which the tests run
        if "train" not in match[0].split()[:4]:
            out, *words = words
            words = ["cluster=ray", "cluster.address=auto", f"out={out}", *words]
        yield words


def check_composes(words: list[str]) -> None:
    """Compose and check the configuration of a train command, as `train` itself does before any work."""
    from mtrl_surgery.commands.program import compose
    from mtrl_surgery.settings import to_settings, validate

    settings = to_settings(compose(words))
    validate(settings)
    assert settings.cluster.kind == "ray" and settings.cluster.address


def stand_in(folder: Path, name: str, body: str) -> None:
    """A program that this machine lacks, on PATH: it records its words, NUL-separated, in `<name>.words`."""
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\nprintf '%s\\0' \"$@\" >>'{folder}/{name}.words'\n{body}\n")
    path.chmod(0o755)


def recorded(folder: Path, name: str) -> list[str]:
    """All words that the stand-in was called with."""
    return (folder / f"{name}.words").read_text().split("\0")[:-1]


def bash(
    *words: str | Path, path: Path | None = None, cwd: Path = REPOSITORY, **variables: str
) -> subprocess.Popen[str]:
    """A script under way, with `path` first on PATH and no Ray settings of this process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    if path is not None:
        kept["PATH"] = f"{path}{os.pathsep}{kept['PATH']}"
    return subprocess.Popen(
        ["bash", *map(str, words)],
        cwd=cwd,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and what it said."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
