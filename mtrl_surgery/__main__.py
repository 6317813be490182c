"""`python -m mtrl_surgery <command>`: finds the command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from mtrl_surgery import __version__
from mtrl_surgery.cli.errors import complain, report
from mtrl_surgery.commands import COMMANDS, listing, unknown_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 what was asked for makes no sense, 130 Ctrl-C, 143 SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(listing())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"mtrl-surgery {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return complain(unknown_command(words[0]), 2)
    try:
        command = importlib.import_module(COMMANDS[words[0]].module)
        return int(command.main(words[1:]))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a table has left (`... | head`): nobody is there to be told, not even by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main())
