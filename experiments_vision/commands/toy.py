"""`toy`: one method, some (`method=[samgs,ls]`) or all (`method=all`) on a problem of two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments_vision.toy.config import ToySettings, published, validate
from mtrl_surgery.cli.composition import Program, run_all
from mtrl_surgery.cli.schema import typed
from mtrl_surgery.runs.console import say
from mtrl_surgery.runs.ending import end
from mtrl_surgery.runs.folder import RunFolder

TOY = Program(
    name="python -m experiments_vision toy",
    module="experiments_vision.commands.toy",
    config_module="experiments_vision.configs.toy",
    config_name="toy",
    schema=ToySettings,
)


def main(words: Sequence[str]) -> int:
    """Compose the configuration and run; the exit code is the worst of all runs'."""
    return run_all(TOY, toy, [plain for word in words for plain in _words(word)])


def _words(word: str) -> list[str]:
    # All methods, or some, are no method: hydra's word for a group that is left out.
    if word == "method=all":
        return ["~method"]
    return ["~method", word.replace("method=", "methods=", 1)] if word.startswith("method=[") else [word]


def toy(config: DictConfig, overrides: Sequence[str]) -> Path:
    """Does one run.

    Args:
        config: What hydra composed.
        overrides: The words of the command line.

    Returns:
        The run folder.
    """
    settings = to_settings(config, overrides)
    from experiments_vision.toy.files import write_files  # torch and matplotlib take seconds: first what needs none
    from experiments_vision.toy.run import run_toy
    from experiments_vision.toy.table import markdown

    with RunFolder.create(Path(settings.out), settings.run_name, settings.to_mapping()) as run:
        try:
            result = run_toy(settings)
            write_files(result, run.path)
            if settings.plot or settings.gif:
                _draw(result, run.path)
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


def _draw(result: Any, folder: Path) -> None:
    from experiments_vision.toy.plots import compare, draw, save_surfaces

    save_surfaces(result, folder)
    if len(result.runs) > 1:
        compare(result, folder)
    for run in result.runs:
        draw(result, run, folder, result.settings.gif)
