"""The sweeps of `train -m`: how they stand, and their end.

usage: mtrl-surgery sweep status [FOLDER]
       mtrl-surgery sweep stop [FOLDER]

FOLDER      a sweep's folder, or a folder of runs: then the newest sweep in it; left out: runs, and the folders in it

status      how its runs stand, read from their folders; from any machine that sees these, also when the sweep's
            driver has died
stop        asks the driver to start nothing more and every run to write a checkpoint; the command that started the
            sweep goes on with it later

A sweep is started by `mtrl-surgery train -m method=ls,samgs seed=range(5)`, or `python -m experiments_vision train -m`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtrl_surgery.cli.arguments import usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.words import path_of
from mtrl_surgery.sweeps import SweepError
from mtrl_surgery.sweeps.folder import SweepFolder, find
from mtrl_surgery.sweeps.standing import standing_of, status

ACTIONS = ("status", "stop")


def main(words: Sequence[str]) -> int:
    """Tell of a sweep, or ask it to stop."""
    if not words or wants_help(words):
        print(usage(__doc__))
        return 0
    check_choice("action", words[0], ACTIONS)
    if len(words) > 2:
        raise SweepError(f"{words[2]!r} is one word too many: sweep {words[0]} [FOLDER]")
    folder = find(path_of(words[1]) if len(words) > 1 else None)
    return _status(folder) if words[0] == "status" else _stop(folder)


def _status(folder: SweepFolder) -> int:
    print(folder.path)
    print(status(folder))
    return 0


def _stop(folder: SweepFolder) -> int:
    runs, driver = folder.read().runs, folder.driver()
    if driver is None:
        raise SweepError(f"{folder.path}: nobody drives this sweep, so there is nothing to stop")
    folder.stop_file.touch()
    running = sum(standing_of(run.folder).state == "running" for run in runs)
    print(f"{folder.path}: {driver} is asked to stop; {running} runs write their checkpoints first")
    return 0
