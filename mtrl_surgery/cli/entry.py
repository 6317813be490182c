"""A program of several commands: finds the command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtrl_surgery import __version__
from mtrl_surgery.choices import unknown
from mtrl_surgery.cli.output import complain, harden, report
from mtrl_surgery.runs.signals import exit_when_told


class Command(NamedTuple):
    """A command: the module whose `main(words) -> exit code` runs it, and what it does in a line.

    What `trains` leaves its result in a run folder, prints only news, and has the key `plugins`.
    """

    module: str
    summary: str
    trains: bool = False


@dataclass(frozen=True)
class CommandTable:
    """What a bare call of the program shows."""

    name: str  # as a user types it
    title: str
    commands: Mapping[str, Command]
    first: str  # what the example is
    example: str  # a whole command line
    also: str = ""  # another way to type the name

    def __str__(self) -> str:
        width = max(map(len, self.commands))
        rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in self.commands.items())
        return f"""\
mtrl-surgery {__version__}: {self.title}

usage: {self.name} COMMAND [KEY=VALUE ...]{self.also}

{rows}

`{self.name} COMMAND --help` says more. {self.first[0].upper() + self.first[1:]}:
  {self.example}"""


def run(table: CommandTable, argv: Sequence[str]) -> int:
    """Run the command that the words after the program's name ask for.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 what was asked for makes no sense, 130 Ctrl-C, 143 SIGTERM.
    """
    output = harden()
    try:
        with exit_when_told():
            code = _run(table, list(argv))
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = report(error)
    if output is None:
        return code
    sys.stdout.flush()
    prints = not (argv and argv[0] in table.commands and table.commands[argv[0]].trains)
    # The reader of a table may leave (`... | head`); a disk that takes none of it is a failure.
    if prints and output.failure is not None and output.failure.errno != errno.EPIPE and code == 0:
        return complain(f"cannot write to standard output: {output.failure.strerror}", 1)
    return code


def _run(table: CommandTable, words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(table, flush=True)
        return 0
    if words[0] in ("-V", "--version"):
        print(f"mtrl-surgery {__version__}")
        return 0
    if words[0] not in table.commands:
        return complain(unknown("command", words[0], table.commands), 2)
    try:
        os.getcwd()
    except FileNotFoundError:
        return complain("the working folder was deleted; change to another", 2)
    command = table.commands[words[0]]
    from mtrl_surgery.cli.trust import load_named  # no package besides ours, but files that may be unsound

    rest = load_named(words[1:], keep=command.trains)
    return int(importlib.import_module(command.module).main(rest))
