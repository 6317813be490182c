"""The commands' table, and what it costs to print it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mtrl_surgery
from mtrl_surgery.commands import COMMANDS
from tests.commands.conftest import Run

HEAVY = ("torch", "ray", "hydra", "metaworld", "mujoco", "gymnasium")


def imports_of(*words: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported once main() has returned."""
    code = (
        "import sys\nfrom mtrl_surgery.__main__ import main\n"
        f"code = main({list(words)!r})\n"
        f"print('imported', *[name for name in {HEAVY!r} if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_listing_imports_nothing_heavy():
    assert imports_of() == set()


@pytest.mark.parametrize("words", [("methods",), ("completion", "query", "mtrl-surgery train method=")])
def test_the_quick_commands_import_neither_ray_nor_a_simulator(words: tuple[str, ...]):
    assert imports_of(*words).isdisjoint({"ray", "metaworld", "mujoco"})


def test_the_listing_names_every_command(run: Run):
    for words in ((), ("--help",), ("-h",), ("help",)):
        said = run(*words)
        assert said.code == 0
        for name, command in COMMANDS.items():
            assert f"{name} " in said.out and command.summary in said.out


def test_version(run: Run):
    assert run("--version").out == f"mtrl-surgery {mtrl_surgery.__version__}\n"


def test_an_unknown_command_names_the_closest(run: Run):
    said = run("trian", "method=ls")
    assert said.code == 2
    assert said.err == f"error: unknown command 'trian'; did you mean 'train'? choices: {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize("command", ["evaluate", "methods", "completion"])
def test_every_command_has_help(run: Run, command: str):
    said = run(command, "--help")
    assert said.code == 0 and "usage: " in said.out and said.err == ""
