"""The bridge to hydra: our schema and a command line's words go in, configurations or one clear sentence come out.

Hydra composes, and that is all: flags, screens and many runs are ours (`command_line`). For the words of `-m` it has no
public function; its parser of words is what its guide to sweepers has them use, so the choices are read by it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from mtrl_surgery.cli.schema import SettingsError, explain
from mtrl_surgery.cli.words import for_hydra, key_in, read_text


@dataclass(frozen=True)
class Program:
    """A command that hydra composes.

    Attributes:
        help: Its help screen; `{groups}`, `{keys}` and the words of `beside` in braces are filled in.
        config_module: The package of its yaml files.
        config_name: The file in it.
        schema: The dataclass of its configuration; the yaml's defaults list it as `<config_name>_schema`.
        methods: Groups that take a method.
        optional: Groups whose `null` is the same as leaving them out, which hydra has no word for.
        beside: Dataclasses of keys that need `-m` and are no part of the configuration, by the word before their dot.
    """

    help: str | None
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
        found = []
        for word in self.without_nulls(words):
            key = key_in(word, self.schema)
            if key is not None and key.is_path:
                name, _, value = word.partition("=")
                text = read_text(name.lstrip("+"), key, value)
                word = f"{name}=null" if text is None else f"{name}={for_hydra(text)}"
            found.append(word)
        return found

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


@contextlib.contextmanager
def composing(program: Program) -> Iterator[None]:
    """Hydra set up once for all that the block composes; what it complains about is a SettingsError."""
    program.register()
    try:
        if GlobalHydra.instance().is_initialized():
            yield
        else:
            with hydra.initialize_config_module(program.config_module, version_base="1.3"):
                yield
    except Exception as error:
        message = explain(error, program.schema)
        if message is None:
            raise
        raise SettingsError(message) from error


def compose(program: Program, overrides: Sequence[str]) -> DictConfig:
    """The configuration that the program has with these overrides.

    Raises:
        SettingsError: the overrides do not make a configuration.
    """
    words = program.for_hydra(overrides)
    with composing(program):
        return hydra.compose(program.config_name, words)


@dataclass(frozen=True)
class Combination:
    """The words of one run, none with a choice; `label` has those that tell it from the other runs."""

    words: tuple[str, ...]
    label: str


def expand(program: Program, words: Sequence[str]) -> list[Combination]:
    """Every combination of the words' choices: `a,b`, `range(n)`, `choice(...)`, `glob(...)`.

    A path is one value, whatever it is made of. The last key varies fastest. A key that is given twice counts as it is
    given last, as hydra has it.

    Raises:
        SettingsError: a word that hydra cannot read, an interval, which has no list of values, or a pattern that
            nothing matches.
    """
    choices: dict[str, list[str]] = {}
    swept: set[str] = set()
    with composing(program):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for word in program.without_nulls(words):
            override = None if program.is_path(word) else parser.parse_overrides([word])[0]
            key = word.partition("=")[0] if override is None else override.get_key_element()
            choices.pop(key, None)
            swept.discard(key)
            choices[key] = [word] if override is None else _choices(override, word)
            if override is not None and override.is_sweep_override():
                swept.add(key)
    found = []
    for values in itertools.product(*choices.values()):
        named = [value for key, value in zip(choices, values, strict=True) if key in swept]
        found.append(Combination(values, " ".join(named) or "the only run"))
    return found


def _choices(override: Override, word: str) -> list[str]:
    if not override.is_sweep_override():
        return [word]
    if not override.is_discrete_sweep():
        raise SettingsError(f"{word}: a sweep needs values to try; choices: a,b  range(a,b)  choice(a,b)  glob(a*)")
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise SettingsError(f"{word}: nothing matches, so there is no run")
    return values
