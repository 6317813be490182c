"""Every method by its code name. Importing this file does not import torch; making a method does."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.entries import ALIASES, METHODS, TRAITS, MethodEntry, Option, Trait, register

# Importing them fills the table.
from mtrl_surgery.methods.options import gramian as _gramian
from mtrl_surgery.methods.options import jacobian as _jacobian
from mtrl_surgery.methods.options import losses as _losses
from mtrl_surgery.methods.options import torchjd as _torchjd
from mtrl_surgery.methods.plugins import load_installed

if TYPE_CHECKING:
    from mtrl_surgery.methods.base import AnyMethod

__all__ = [
    "ALIASES", "METHODS", "TRAITS", "MethodEntry", "Option", "Trait", "find_method", "make_method", "register",
]  # fmt: skip
_FILLED_BY = (_losses, _gramian, _jacobian, _torchjd)  # named, so that no tool drops the imports


def find_method(name: str) -> MethodEntry:
    """The entry of that code name or alias.

    Raises:
        MethodError: naming the close matches and all choices.
    """
    if entry := METHODS.get(ALIASES.get(name, name)):
        return entry
    close = difflib.get_close_matches(name, [*METHODS, *ALIASES], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    raise MethodError(f"unknown method {name!r}{hint} choices: {', '.join(sorted(METHODS))}")


def make_method(config: MethodConfig, num_tasks: int, seed: int) -> AnyMethod:
    """Makes a fresh method on the CPU (move it with `.to(device)`).

    Args:
        config: The options, a config dataclass with a registered `name`.
        num_tasks: K, at least 1.
        seed: Seeds the method's own random generator.

    Raises:
        MethodError: for an unknown name, a config of another method, or `num_tasks < 1`.
    """
    entry = find_method(config.name)
    if not isinstance(config, entry.config):
        wanted, got = entry.config.__name__, type(config).__name__
        raise MethodError(f"method {config.name!r} takes {wanted}, got {got}")
    module, _, cls = entry.module.partition(":")
    method: AnyMethod = getattr(importlib.import_module(module), cls)(num_tasks, config, seed)
    return method


load_installed()  # last, since those modules import this one
