"""KEY=VALUE words for the commands that need no hydra: a dataclass says which keys there are and of which type."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mtrl_surgery.choices import unknown
from mtrl_surgery.cli.schema import SettingsError, check_values, explain
from mtrl_surgery.cli.screen import listing, rows_of
from mtrl_surgery.cli.words import key_in, keys_of, read_text

T = TypeVar("T")


def parse(words: Sequence[str], schema: type[T]) -> T:
    """Read KEY=VALUE words into an instance of the dataclass; paths and texts are taken as they are typed.

    Raises:
        SettingsError: a word is no KEY=VALUE, the key is unknown, or the value has the wrong type.
        WordError: a path makes no sense.
    """
    texts: dict[str, str | None] = {}
    config = OmegaConf.structured(schema)
    for word in words:
        if "=" not in word or word.startswith("-"):
            keys = ", ".join(f"{name}=" for name in keys_of(schema))
            raise SettingsError(f"cannot read {word!r}: write KEY=VALUE; choices: {keys}")
        name, _, value = word.partition("=")
        key = key_in(word, schema)
        if key is None:
            raise SettingsError(unknown("key", name, keys_of(schema)))
        if key.is_text:
            texts[name] = read_text(name, key, value)
            continue
        if value.strip() == "???":  # omegaconf's word for a value that is missing
            raise SettingsError(f"{word}: give a value")
        try:
            config = OmegaConf.merge(config, OmegaConf.from_dotlist([word]))
        except YAMLError as error:
            raise SettingsError(f"cannot read {word!r}: the value has quotes or brackets that do not close") from error
        except OmegaConfBaseException as error:
            raise SettingsError(explain(error, schema) or str(error)) from error
    parsed = OmegaConf.to_object(config)
    assert isinstance(parsed, schema)
    for name, text in texts.items():
        where, _, last = name.rpartition(".")
        setattr(attrgetter(where)(parsed) if where else parsed, last, text)
    check_values(parsed)
    return parsed


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words ask for the command's help."""
    return any(word in ("-h", "--help") for word in words)


def usage(text: str | None, schema: type[Any] | None = None) -> str:
    """A command's help screen: its module's docstring, with the dataclass's keys where `{keys}` stands."""
    screen = inspect.cleandoc(text or "")
    return screen if schema is None else screen.replace("{keys}", listing(rows_of(schema)))
