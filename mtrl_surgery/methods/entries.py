"""What is known of a method before torch is imported, and the table of all of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mtrl_surgery.methods.config import MethodConfig, MethodError

Needs = Literal["losses", "gramian", "jacobian"]

Trait = Literal["non-conflicting", "equivariant", "homogeneous", "linear", "scale-invariant"]
"""What holds of d(J), the direction of a fresh method, for every Jacobian J:

- non-conflicting: J d >= 0, no task's loss rises to first order;
- equivariant: another order of the tasks gives the same direction;
- homogeneous: d(c J) = c d(J) for a number c > 0;
- linear (under scaling): d(diag(c) J) is linear in c > 0;
- scale-invariant: d(diag(c) J) points where d(J) does, for every c > 0.
"""
TRAITS: tuple[Trait, ...] = get_args(Trait)


@dataclass(frozen=True)
class Option:
    """One option of a method, for tables: its name, default, meaning and choices (empty: any)."""

    name: str
    default: Any
    summary: str
    choices: tuple[Any, ...]


@dataclass(frozen=True)
class MethodEntry:
    """What is known of a method before torch is imported.

    Attributes:
        name: The code name (`method=<name>`).
        paper: Where it was published.
        needs: What it asks for at every step.
        module: `package.module:Class`, imported when the method is made.
        config: The dataclass of its options.
        summary: One line.
        origin: `ours`, or the library that the code comes from.
        traits: What holds of it, tested; what isn't named has a counter-example in the tests.
        parity: What its results are compared with in the tests.
        aliases: Other names that `method=` takes.
    """

    name: str
    paper: str
    needs: Needs
    module: str
    config: type[MethodConfig]
    summary: str
    origin: str = "ours"
    traits: tuple[Trait, ...] = ()
    parity: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        """Its options with their defaults."""
        defaults, fields = self.config(), dataclasses.fields(self.config)
        return tuple(
            Option(f.name, getattr(defaults, f.name), f.metadata["summary"], f.metadata["choices"])
            for f in fields
            if f.metadata
        )


METHODS: dict[str, MethodEntry] = {}
ALIASES: dict[str, str] = {}
"""Other name -> code name."""


def register(entry: MethodEntry) -> MethodEntry:
    """Adds a method.

    Raises:
        MethodError: if a name of it is taken, or the code name is not the one in its config.
    """
    for name in (entry.name, *entry.aliases):
        if taken := METHODS.get(ALIASES.get(name, name)):
            raise MethodError(f"method {name!r} is registered already, as {taken.module}")
    if entry.config().name != entry.name:
        raise MethodError(f"method {entry.name!r}: its config calls itself {entry.config().name!r}")
    METHODS[entry.name] = entry
    ALIASES.update(dict.fromkeys(entry.aliases, entry.name))
    return entry
