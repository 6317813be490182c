"""The bridge to hydra: our schema goes in, a composed configuration or one clear sentence comes out."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from mtrl_surgery.cli import screen
from mtrl_surgery.cli.arguments import wants_help
from mtrl_surgery.cli.complaints import explain
from mtrl_surgery.cli.errors import complain, report
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import for_hydra, key_in, read_text
from mtrl_surgery.runs.signals import asked_to_end


@dataclass(frozen=True)
class Program:
    """A command that hydra composes.

    Attributes:
        name: What a user types, such as `mtrl-surgery train`.
        module: Where the command lives; hydra's help names it.
        config_module: The package of its yaml files.
        config_name: The file in it.
        schema: The dataclass of its configuration; the yaml's defaults list it as `<config_name>_schema`.
        methods: Groups that take a method.
        optional: Groups whose `null` is the same as leaving them out, which hydra has no word for.
        beside: Dataclasses of keys that are no part of the configuration, by the word before their dot.
    """

    name: str
    module: str
    config_module: str
    config_name: str
    schema: type[Any]
    methods: tuple[str, ...] = ("method",)
    optional: tuple[str, ...] = ()
    beside: Mapping[str, type[Any]] = field(default_factory=dict)

    def without_nulls(self, words: Sequence[str]) -> list[str]:
        """The words without groups that are left out by `null`."""
        return [word for word in words if word not in [f"{group}=null" for group in self.optional]]

    def is_path(self, word: str) -> bool:
        """Whether a word sets a key that is a path, which is taken as it is typed: it is no choice of several."""
        key = key_in(word, self.schema)
        return key is not None and key.is_path

    def for_hydra(self, words: Sequence[str]) -> list[str]:
        """The words that hydra is to see: paths quoted, so that it reads them as they were typed.

        Raises:
            WordError: A path makes no sense.
        """
        return [self._path_for_hydra(word) if self.is_path(word) else word for word in self.without_nulls(words)]

    def _path_for_hydra(self, word: str) -> str:
        name, _, value = word.partition("=")
        key = key_in(word, self.schema)
        assert key is not None
        text = read_text(name.lstrip("+"), key, value)
        return f"{name}=null" if text is None else f"{name}={for_hydra(text)}"

    def register(self) -> None:
        """Give hydra the types of the configuration, and an option of the method groups for every method."""
        from mtrl_surgery.methods.registry import METHODS  # and torch

        _store(None, f"{self.config_name}_schema", self.schema)
        for group in self.methods:
            for name, entry in METHODS.items():
                for known in (name, *entry.aliases):
                    _store(group, known, entry.config)


_stored: set[tuple[str | None, str, type[Any]]] = set()


def _store(group: str | None, name: str, node: type[Any]) -> None:
    """Once a process: for a hundred dataclasses hydra takes half as long as for composing a configuration."""
    if (group, name, node) not in _stored:
        ConfigStore.instance().store(group=group, name=name, node=node, provider="mtrl_surgery")
        _stored.add((group, name, node))


def run_all(program: Program, task: Callable[[DictConfig, list[str]], object], words: Sequence[str]) -> int:
    """Compose the configuration and do the task, once or for every combination of `-m`.

    Args:
        program: the command.
        task: is given what hydra composed, and the words that made it.
        words: the command line.

    Returns:
        The worst exit code of all. A sweep goes on after a failure, and ends with a signal.
    """
    codes: list[int] = []

    def run(config: DictConfig) -> None:
        # hydra would print a line of its own about an exception, so none leaves here.
        try:
            words: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
            with translated(program):
                task(config, words)
        except Exception as error:
            codes.append(report(error))
            if HydraConfig.get().mode == RunMode.MULTIRUN and codes[-1] > 128:
                raise SystemExit(codes[-1]) from error  # stopped by a signal: that goes for the runs to come as well
        except BaseException as error:
            if asked_to_end(error):
                raise
            codes.append(complain(f"the run was left by {type(error).__name__}: {error}", 1))

    hydra_main(program, run, words)
    return max(codes, default=0)


def hydra_main(program: Program, task: Callable[[DictConfig], None], words: Sequence[str]) -> None:
    """Run hydra's own command line (--cfg, --help, -m, ...) on our words; it calls the task for every run.

    Raises:
        SettingsError: the words do not make a configuration; the message names the key, the value and the choices.
    """
    if wants_help(words):
        print(help_screen(program, words))
        return
    program.register()
    path = f"pkg://{program.config_module}"
    app = hydra.main(config_path=path, config_name=program.config_name, version_base="1.3")(task)
    # hydra.main reads the process's arguments, and only raises what goes wrong where the variable is set.
    full_error = {"HYDRA_FULL_ERROR": "1", "HYDRA_MAIN_MODULE": program.module}
    with (
        mock.patch.object(sys, "argv", [program.name, *program.for_hydra(words)]),
        mock.patch.dict(os.environ, full_error),
        mock.patch.object(logging, "raiseExceptions", False),  # `--info | head` is no reason for tracebacks
        translated(program),
    ):
        app()


def compose(program: Program, overrides: Sequence[str]) -> DictConfig:
    """The configuration that the program would have with these overrides, inside hydra's run or outside of it.

    Raises:
        SettingsError: the overrides do not make a configuration.
    """
    program.register()
    words = program.for_hydra(overrides)
    with translated(program):
        if GlobalHydra.instance().is_initialized():
            return hydra.compose(program.config_name, words)
        with hydra.initialize_config_module(program.config_module, version_base="1.3"):
            return hydra.compose(program.config_name, words)


def help_screen(program: Program, words: Sequence[str]) -> str:
    """What the program does, its groups, and every key with the value that it has on this command line.

    Raises:
        SettingsError: the words do not make a configuration.
    """
    many = any(word in ("-m", "--multirun") for word in words)  # no key has one value then: the defaults are shown
    overrides = [] if many else [word for word in words if not word.startswith("-")]
    program.register()
    with translated(program), hydra.initialize_config_module(program.config_module, version_base="1.3"):
        config = hydra.compose(program.config_name, program.for_hydra(overrides), return_hydra_config=True)
        about = config.hydra.help
        loader = GlobalHydra.instance().config_loader()
        options = {name: loader.get_group_options(name) for name in loader.list_groups("") if name != "hydra"}
    with open_dict(config):
        del config["hydra"]
    settings = OmegaConf.to_object(config)
    parts = [
        about.header,
        f"usage: {program.name} [GROUP=OPTION ...] [KEY=VALUE ...]",
        f"Groups (GROUP=OPTION)\n{screen.groups(options)}",
        f"Keys (KEY=VALUE, with the values of this command line)\n"
        f"{screen.listing(screen.rows_of(program.schema, settings))}",
        *(
            f"Keys of a sweep (with -m)\n{screen.listing(screen.rows_of(schema, prefix=f'{word}.'))}"
            for word, schema in program.beside.items()
        ),
        about.footer,
    ]
    return "\n\n".join(part.strip("\n") for part in parts)


@contextlib.contextmanager
def translated(program: Program) -> Iterator[None]:
    """What hydra complains about in the block, as a SettingsError."""
    try:
        yield
    except Exception as error:
        message = explain(error, program.schema)
        if message is None:
            raise
        raise SettingsError(message) from error
