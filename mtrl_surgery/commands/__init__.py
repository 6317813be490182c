"""The commands, by name. This table and its listing import nothing heavy: neither torch nor ray nor hydra."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from mtrl_surgery import __version__


class Command(NamedTuple):
    """A command: the module whose `main(words) -> exit code` runs it, and what it does in a line."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "train": Command("mtrl_surgery.commands.train", "train SAC with a surgery method, or go on with a run"),
    "evaluate": Command("mtrl_surgery.commands.evaluate", "success of a checkpoint, task by task"),
    "methods": Command("mtrl_surgery.commands.methods", "the surgery methods and their options"),
    "bench": Command("mtrl_surgery.commands.bench", "time the update, the methods and the rollout on this machine"),
    "completion": Command("mtrl_surgery.commands.completion", "tab completion for bash, zsh and fish"),
}


def listing() -> str:
    """The screen of a bare `mtrl-surgery`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return f"""\
mtrl-surgery {__version__}: multi-task reinforcement learning with gradient surgery

usage: mtrl-surgery COMMAND [KEY=VALUE ...]      (or: python -m mtrl_surgery COMMAND ...)

{rows}

`mtrl-surgery COMMAND --help` says more. A first run of some minutes:
  mtrl-surgery train experiment=easy3 method=samgs"""


def unknown_command(name: str) -> str:
    """The message for a command that isn't there, with the closest one."""
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown command '{name}'; {hint}choices: {', '.join(COMMANDS)}"
