"""Options that change what a method costs or asks for: each has a row of its own in tables, and its own test cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method

VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"famo": {"famo(compare_every=1)": {"compare_every": 1}}}
"""Method -> label -> options."""


def with_variants(names: Iterable[str]) -> list[str]:
    """Each method's name, and then the labels of its variants."""
    return [label for name in names for label in (name, *VARIANTS.get(name, ()))]


def find_entry(label: str) -> MethodEntry:
    """The entry of a method or of one of its variants.

    Raises:
        MethodError: an unknown name, with the choices.
    """
    name = next((name for name, variants in VARIANTS.items() if label in variants), label)
    return find_method(name)


def config_of(label: str) -> MethodConfig:
    """The options of a method's name (its defaults), or of a variant's label.

    Raises:
        MethodError: an unknown name; or the method has no defaults to run with.
    """
    entry = find_entry(label)
    return entry.config(**VARIANTS.get(entry.name, {}).get(label, {}))


def all_labels() -> list[str]:
    """Every method and variant."""
    return with_variants(METHODS)
