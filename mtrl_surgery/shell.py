"""Commands that a user pastes into a shell: they name the interpreter that runs, and are quoted."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def python() -> str:
    """The running interpreter as a shell finds it, not quoted: `python` where that is it, else its path."""
    running = sys.executable or "python"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = os.path.join(folder, "python")
        if os.access(found, os.X_OK):
            if os.path.abspath(found) == running:
                return "python"
            break
    here = os.getcwd() + os.sep
    return running.removeprefix(here)


def command(module: str, *words: str) -> str:
    """`python -m <module> <words>`, quoted.

    Args:
        module: Such as `mtrl_surgery`.
        words: As the program is to get them; paths as `typed` gives them.
    """
    return shlex.join([python(), "-m", module, *words])


def typed(path: str | Path) -> str:
    """A path as a word of its own or a key's value, so that the program takes it for that path and nothing else."""
    text = str(path)
    return (
        f"./{text}" if text.startswith(("~", "-", "?")) or ("=" in text and not text.startswith(("/", "./"))) else text
    )


def activate() -> str:
    """`source .venv/bin/activate, or ` in a checkout, where it is better than an installation; else nothing."""
    script = _ROOT / ".venv" / "bin" / "activate"
    if not (_ROOT / "pyproject.toml").is_file() or Path(sys.prefix) == script.parents[1]:
        return ""
    if not script.is_file():
        return f"make -C {shlex.quote(str(_ROOT))} setup, or " if Path.cwd() != _ROOT else "make setup, or "
    return f"source {shlex.quote(os.path.relpath(script) if Path.cwd() == _ROOT else str(script))}, or "


def install(extra: str = "") -> str:
    """The command that installs this package's dependencies, or those of one of its extras.

    Args:
        extra: Such as `report`; left out, the dependencies of every command.
    """
    brackets = f"[{extra}]" if extra else ""
    if (_ROOT / "pyproject.toml").is_file():
        where = "." if Path.cwd() == _ROOT else str(_ROOT)
        return command("pip", "install", "-e", where + brackets)
    return command("pip", "install", *_packages(extra))


def _packages(extra: str) -> list[str]:
    """The dependencies in the installed package's own description: it is on no index by its own name."""
    try:
        wanted = requires("mtrl-surgery") or []
    except PackageNotFoundError:
        wanted = []
    marker = f'extra == "{extra}"'
    found = [one.partition(";")[0].strip() for one in wanted if (marker in one if extra else "extra ==" not in one)]
    return found or ["mtrl-surgery"]
