"""Help screens: every key with its value and its words, from the dataclass that has the key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from operator import attrgetter
from typing import Any

from mtrl_surgery.cli.words import keys_of
from mtrl_surgery.methods.config import MethodConfig

WIDTH = 100
_COLUMN = 38  # where the words begin

Row = tuple[str, Any, str]
"""A key, its value and its words."""


def rows_of(schema: type[Any], values: Any = None, prefix: str = "") -> list[Row]:
    """A row a key, with its value in an instance (None: its default); a method is followed by its options."""
    values = defaults_of(schema) if values is None else values
    rows: list[Row] = []
    for name, key in keys_of(schema).items():
        value = attrgetter(name)(values)
        rows.append((f"{prefix}{name}", value.name if isinstance(value, MethodConfig) else value, key.words))
        if isinstance(value, MethodConfig):
            rows += [
                (f"{prefix}{name}.{option.name}", getattr(value, option.name), option.metadata["summary"])
                for option in fields(value)
                if option.metadata
            ]
    return rows


def defaults_of(schema: type[Any]) -> Any:
    """An instance with the defaults; None for what has none."""
    bare = [field.name for field in fields(schema) if field.default is MISSING and field.default_factory is MISSING]
    made = schema(**dict.fromkeys(bare))
    assert is_dataclass(made)
    return made


def listing(rows: Iterable[Row]) -> str:
    """`  key=value   words`, no wider than `WIDTH`; an empty line where another group begins."""
    lines: list[str] = []
    rows = list(rows)
    heads = {key.partition(".")[0] for key, _, _ in rows if "." in key}
    group: str | None = None
    for key, value, words in rows:
        own = key.partition(".")[0] if key.partition(".")[0] in heads else ""
        if group is not None and own != group:
            lines.append("")
        group = own
        shown = f"  {key}={as_word(value)}"
        told = textwrap.wrap(words, WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False)
        if len(shown) > _COLUMN - 2:
            lines += textwrap.wrap(shown, WIDTH, subsequent_indent="    ", drop_whitespace=False)
        else:
            lines.append((shown.ljust(_COLUMN) + (told.pop(0) if told else "")).rstrip())
        lines += [" " * _COLUMN + one for one in told]
    return "\n".join(lines)


def groups(options: Mapping[str, Iterable[str]]) -> str:
    """`group: option, option`, no wider than `WIDTH`."""
    lines = [f"  {name}: {', '.join(sorted(known))}" for name, known in options.items()]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)


def as_word(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_word, value))}]"
    return str(value)
