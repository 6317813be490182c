"""Let methods descend on a problem of two losses and two parameters, from each of its starts.

usage: python -m experiments_vision toy [GROUP=OPTION ...] [KEY=VALUE ...]

Groups (GROUP=OPTION)
{groups}

Keys (KEY=VALUE, with the values of this command line)
{keys}

Examples:
  python -m experiments_vision toy problem=toy1o method=samgs              SAM-GS's first problem, with figures
  python -m experiments_vision toy problem=toy1o method=all                the table of all methods
  python -m experiments_vision toy problem=toy1o 'method=[samgs,ls,famo]'   some methods, side by side
  python -m experiments_vision toy problem=nashmtl method=nashmtl gif=true an animation
  python -m experiments_vision toy -m method=ls,famo,cagrad max_norm=null,1 six runs, one after the other
  python -m experiments_vision toy method=samgs 'starts=[[0,10],[3,7.5]]'  starts of your own

problem: toy1o, toy2o, nashmtl, cagrad, aligned. Options of a method that you leave out are those of the published toy
code; options=defaults takes the method's own. docs/toy.md says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments_vision.toy.config import ToySettings, published, validate
from mtrl_surgery.cli.command_line import read_flags, run_all
from mtrl_surgery.cli.composition import Program
from mtrl_surgery.cli.schema import typed
from mtrl_surgery.runs.console import say
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.signals import end

TOY = Program(help=__doc__, config_module="experiments_vision.configs.toy", config_name="toy", schema=ToySettings)


def main(words: Sequence[str]) -> int:
    """Compose the configuration and run; the exit code is the worst of all runs'."""
    line = read_flags(words)
    return run_all(TOY, toy, replace(line, words=tuple(plain for word in line.words for plain in _words(word))))


def _words(word: str) -> list[str]:
    # All methods, or some, are no method: hydra's word for a group that is left out.
    if word == "method=all":
        return ["~method"]
    return ["~method", word.replace("method=", "methods=", 1)] if word.startswith("method=[") else [word]


def toy(config: DictConfig, overrides: Sequence[str]) -> Path:
    """Do one run of the composed configuration; `overrides` are the words of the command line.

    Returns:
        The run folder.
    """
    settings = to_settings(config, overrides)
    from experiments_vision.toy.run import run_toy  # torch and matplotlib take seconds: first what needs none
    from experiments_vision.toy.table import markdown, write_files

    with RunFolder.create(Path(settings.out), settings.run_name, settings.to_mapping()) as run:
        try:
            result = run_toy(settings)
            write_files(result, run.path)
            if settings.plot or settings.gif:
                from experiments_vision.toy.plots import draw

                draw(result, run.path)
        except BaseException as error:
            end(run, error)
            raise
        run.finish("finished")
    print(markdown(result))
    spent = ", ".join(f"{one.config.name} {one.seconds:.1f}" for one in result.runs)
    say(f"{run.path}: finished; seconds of one core: {spent}")
    return run.path


def to_settings(config: Any, overrides: Sequence[str]) -> ToySettings:
    """Plain typed settings; options of the method that no word sets are the published toy code's.

    Raises:
        SettingsError, VisionError: a value makes no sense.
    """
    settings = typed(config, ToySettings, ("method",), ("method",))
    validate(settings)
    if settings.method is not None:
        keys = [word.lstrip("+~").split("=")[0] for word in overrides]
        given = [key.removeprefix("method.") for key in keys if key.startswith("method.")]
        settings.method = published(settings.method, settings, given)
    return settings
