"""What to install where something is missing: a command for the interpreter that runs, in a checkout or outside one."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def python() -> str:
    """The running interpreter as a shell finds it: `python` where that is it, else its path."""
    running = sys.executable or "python"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = os.path.join(folder, "python")
        if os.access(found, os.X_OK):
            if os.path.abspath(found) == running:
                return "python"
            break
    here = os.getcwd() + os.sep
    return shlex.quote(running.removeprefix(here) if running.startswith(here) else running)


def activate() -> str:
    """`source .venv/bin/activate, or `, where the Makefile has built an environment and another interpreter runs."""
    script = _ROOT / ".venv" / "bin" / "activate"
    if not script.is_file() or Path(sys.prefix) == script.parents[1]:
        return ""
    return f"source {shlex.quote(os.path.relpath(script) if Path.cwd() == _ROOT else str(script))}, or "


def install(extra: str = "") -> str:
    """The command that installs this package's dependencies, or those of one of its extras.

    Args:
        extra: Such as `report`; left out, what every command needs.
    """
    brackets = f"[{extra}]" if extra else ""
    if (_ROOT / "pyproject.toml").is_file():
        where = "." if Path.cwd() == _ROOT else str(_ROOT)
        return f"{python()} -m pip install -e {shlex.quote(where + brackets)}"
    return f"{python()} -m pip install {' '.join(map(shlex.quote, _packages(extra)))}"


def _packages(extra: str) -> list[str]:
    """What the installed package's own description asks for: it is on no index by its own name."""
    try:
        wanted = requires("mtrl-surgery") or []
    except PackageNotFoundError:
        wanted = []
    marker = f'extra == "{extra}"'
    found = [one.partition(";")[0].strip() for one in wanted if (marker in one if extra else "extra ==" not in one)]
    return found or ["mtrl-surgery"]
