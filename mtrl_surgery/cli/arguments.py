"""KEY=VALUE words for the commands that need no hydra: a dataclass says which keys there are and of which type."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtrl_surgery.cli.complaints import explain
from mtrl_surgery.cli.schema import SettingsError

T = TypeVar("T")


def parse(words: Sequence[str], schema: type[T]) -> T:
    """Read KEY=VALUE words into an instance of the dataclass.

    Raises:
        SettingsError: a word is no KEY=VALUE, the key is unknown, or the value has the wrong type.
    """
    for word in words:
        if "=" not in word or word.startswith("-"):
            keys = ", ".join(f"{f.name}=" for f in fields(schema))  # type: ignore[arg-type]
            raise SettingsError(f"cannot read '{word}': write KEY=VALUE; choices: {keys}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_dotlist(list(words)))
        parsed = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise SettingsError(explain(error, schema) or str(error)) from error
    assert isinstance(parsed, schema)
    return parsed


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words ask for the command's help."""
    return any(word in ("-h", "--help") for word in words)


def usage(text: str | None) -> str:
    """A command's help screen, which is its module's docstring."""
    return inspect.cleandoc(text or "")
