"""Words of a command line: which keys are paths or text, how those are read, and what a key means.

A dataclass says of a key what it means with `Annotated[type, "a few words"]`, and that it is a path with
`Annotated[type, PATH, "a few words"]`. A path and a text are taken as they are typed: no comma, quote, brace or `$` in
them means anything. In a path `~` and `~user` at the start are the home folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

PATH: Final = "<path>"
"""Marks a key that is a path."""
_TEXTS = (str, str | None)


class WordError(ValueError):
    """A word that cannot be read; the message names the key and the value."""


@dataclass(frozen=True)
class Key:
    """What a dataclass says of one of its keys."""

    type: Any
    words: str
    is_path: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it takes any text, or null."""
        return self.type in _TEXTS

    @property
    def takes_null(self) -> bool:
        """Whether `null` is its word for nothing."""
        return type(None) in get_args(self.type)


def keys_of(schema: type[Any]) -> Mapping[str, Key]:
    """The keys of a dataclass and of those in it, by dotted name, in their order."""
    found: dict[str, Key] = {}
    for name, hint in get_type_hints(schema, include_extras=True).items():
        kind, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(kind):
            found.update({f"{name}.{below}": key for below, key in keys_of(kind).items()})  # type: ignore[arg-type]
        else:
            found[name] = Key(kind, " ".join(word for word in said if word != PATH), PATH in said)
    return found


def key_in(word: str, schema: type[Any]) -> Key | None:
    """The key that a KEY=VALUE word sets, if it is one of the dataclass's."""
    name, equals, _ = word.partition("=")
    return keys_of(schema).get(name.lstrip("+")) if equals else None


def path_of(text: str, key: str = "") -> str:
    """A path as it was typed for the key, with the home folder for `~` and `~user` at its start.

    Raises:
        WordError: There is no such user, the path is empty, or no file system could have it.
    """
    shown = f"{key}={text}" if key else text
    if not text:
        raise WordError(f"{key or 'a path'}= is empty: name a file or a folder")
    if "\0" in text:
        raise WordError(f"{shown!r}: no path has a zero byte")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise WordError(f"{shown}: there is no user {path[1:].partition('/')[0]!r} here; ./{text} is a folder's name")
    return "./???" if path == "???" else path  # omegaconf's word for a value that is missing


def read_text(name: str, key: Key, value: str) -> str | None:
    """The value of a key that takes text, from what was typed.

    Raises:
        WordError: See `path_of`.
    """
    if value == "null" and key.takes_null:
        return None
    if key.is_path and not (value == "" and key.takes_null):
        return path_of(value, name)
    return value


def split_paths(words: Sequence[str], schema: type[Any]) -> tuple[list[str], list[str]]:
    """Paths and KEY=VALUE words of a command that takes both.

    A path may have an equals sign: it is one where it is there, or where a folder stands before the sign.

    Raises:
        WordError: See `path_of`.
    """
    paths: list[str] = []
    rest: list[str] = []
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("-") and not os.path.exists(word):
            rest.append(word)
        elif "=" not in word or (name not in keys_of(schema) and ("/" in name or os.path.exists(word))):
            paths.append(path_of(word))
        else:
            rest.append(word)
    return paths, rest


def literal(value: Any) -> Any:
    """A text, and those in mappings and lists, as omegaconf reads it back: `${` in it refers to nothing."""
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [literal(inner) for inner in value]
    # Omegaconf reads backslashes before `${` as half as many.
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value) if isinstance(value, str) else value


def for_hydra(text: str) -> str:
    """A text as hydra and omegaconf read it back, whatever characters it has."""
    # Hydra reads backslashes before a quote as half as many.
    text = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), literal(text))
    return f"'{text}'"
