"""The command line of a program that hydra composes: its flags, its screens, and its runs, one or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mtrl_surgery.choices import unknown
from mtrl_surgery.cli import screen
from mtrl_surgery.cli.arguments import usage
from mtrl_surgery.cli.composition import Program, compose, composing, expand
from mtrl_surgery.cli.output import complain, report
from mtrl_surgery.cli.schema import SettingsError, check_choice
from mtrl_surgery.runs.console import table
from mtrl_surgery.runs.signals import asked_to_end

_LONG = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-i": "--info"}
_SCREENS = {"--cfg": "job", "--info": "defaults"}
_FLAGS = ("--help", "--cfg job", "--info defaults", "-m")


@dataclass(frozen=True)
class CommandLine:
    """What was typed: GROUP=OPTION and KEY=VALUE words, whether they mean many runs, and a screen to show instead."""

    words: tuple[str, ...]
    many: bool = False
    screen: str = ""


def read_flags(words: Sequence[str]) -> CommandLine:
    """Tell the flags from the other words.

    Raises:
        SettingsError: A flag that there is not, or one of hydra's own keys.
    """
    rest: list[str] = []
    many, shown = False, ""
    remaining = iter(words)
    for word in remaining:
        flag, _, value = word.partition("=")
        flag = _LONG.get(flag, flag)
        if flag in _SCREENS:
            shown = value or next(remaining, "")
            check_choice(flag, shown, [_SCREENS[flag]])
        elif flag == "--help":
            shown = "help"
        elif flag == "--multirun":
            many = True
        elif word.startswith("-"):
            raise SettingsError(unknown("flag", word, _FLAGS))
        elif word.lstrip("+~").startswith(("hydra.", "hydra/")) and "hydra.searchpath=" not in word:
            raise SettingsError(
                f"{word}: hydra composes the configuration and does no runs; -m does many, and "
                f"hydra.searchpath=[file://FOLDER] is where groups of your own are"
            )
        else:
            rest.append(word)
    return CommandLine(tuple(rest), many, shown)


def run_all(program: Program, task: Callable[[DictConfig, Sequence[str]], object], line: CommandLine) -> int:
    """Show the screen that is asked for, or compose and do the task, once or for every combination of `-m`.

    The task is given what hydra composed, and the words that made it.

    Returns:
        The worst exit code of all. Many runs go on after a failure, and end with a signal.

    Raises:
        SettingsError: the words do not make a configuration; the message names the key, the value and the choices.
    """
    beside = [word for word in line.words if word.partition(".")[0] in program.beside]
    if beside and not line.many and not line.screen:
        raise SettingsError(f"{beside[0]}: says how a sweep is done, which needs -m")
    words = [word for word in line.words if word not in beside]
    with composing(program):
        if line.screen:
            # Where there are many runs no key has one value: the help shows the defaults.
            print(_SHOW[line.screen](program, [] if line.many and line.screen == "help" else words))
            return 0
        runs = [one.words for one in expand(program, words)] if line.many else [words]
        composed = [(compose(program, own), own) for own in runs]
    worst = 0
    for config, own in composed:
        code = _do(task, config, own)
        if code > 128:
            return code  # stopped by a signal: that goes for the runs to come as well
        worst = max(worst, code)
    return worst


def _do(task: Callable[[DictConfig, Sequence[str]], object], config: DictConfig, words: Sequence[str]) -> int:
    try:
        task(config, words)
    except Exception as error:
        return report(error)
    except BaseException as error:
        if asked_to_end(error):
            raise
        return complain(f"the run was left by {type(error).__name__}: {error}", 1)
    return 0


def _help(program: Program, words: Sequence[str]) -> str:
    """What the program does, its groups, and every key with the value that it has on this command line."""
    settings = OmegaConf.to_object(compose(program, words))
    loader = GlobalHydra.instance().config_loader()
    options = {name: loader.get_group_options(name) for name in loader.list_groups("") if name != "hydra"}
    text = usage(program.help).replace("{groups}", screen.groups(options))
    text = text.replace("{keys}", screen.listing(screen.rows_of(program.schema, settings)))
    for word, schema in program.beside.items():
        text = text.replace(f"{{{word}}}", screen.listing(screen.rows_of(schema, prefix=f"{word}.")))
    return text


def _job(program: Program, words: Sequence[str]) -> str:
    return OmegaConf.to_yaml(compose(program, words)).rstrip("\n")


def _defaults(program: Program, words: Sequence[str]) -> str:
    """Which files and dataclasses the configuration is composed of, in their order."""
    loader = GlobalHydra.instance().config_loader()
    found = loader.compute_defaults_list(program.config_name, program.for_hydra(words), RunMode.RUN).defaults
    rows = [(one.config_path, one.package, one.parent) for one in found if not one.config_path.startswith("hydra")]
    return table(("file", "package", "listed by"), rows)


_SHOW: Mapping[str, Callable[[Program, Sequence[str]], str]] = {"help": _help, "job": _job, "defaults": _defaults}
