"""Every method by its code name, and the decorator that puts it there.

Importing this file imports all methods, and Torch with them; `config.py` and `plugins.py` go without.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from mtrl_surgery import methods
from mtrl_surgery.choices import unknown
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.plugins import load_installed

if TYPE_CHECKING:
    from mtrl_surgery.methods.base import AnyMethod

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
    """What is known of a method without making one; see `register` for the attributes."""

    name: str
    make: Callable[[int, Any, int], AnyMethod]
    config: type[MethodConfig]
    paper: str
    summary: str
    needs: Needs
    origin: str
    traits: tuple[Trait, ...]
    parity: str
    aliases: tuple[str, ...]

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

Made = TypeVar("Made", bound=Callable[..., "AnyMethod"])


def register(
    config: type[MethodConfig],
    *,
    paper: str,
    summary: str,
    needs: Needs | None = None,
    origin: str = "ours",
    traits: tuple[Trait, ...] = (),
    parity: str = "",
    aliases: tuple[str, ...] = (),
) -> Callable[[Made], Made]:
    """Decorates the class of a method, or a function that makes one of (num_tasks, config, seed).

    Args:
        config: The dataclass of its options; the default of its `name` is the code name (`method=<name>`).
        paper: Where it was published; `-` for nowhere.
        summary: One line.
        needs: What it asks for at every step; a class says so itself.
        origin: `ours`, or the library that the code comes from.
        traits: What holds of it and is tested; for each trait that is not named the tests have a counter-example.
        parity: What its results are compared with in the tests.
        aliases: Other names that `method=` takes.

    Raises:
        MethodError: if one of its names is taken.
    """
    name = config().name
    for known in (name, *aliases):
        if taken := METHODS.get(ALIASES.get(known, known)):
            where = f"{taken.make.__module__}.{getattr(taken.make, '__qualname__', '?')}"
            raise MethodError(f"method {known!r} is registered already, as {where}")

    def add(make: Made) -> Made:
        asks: Needs = needs or make.needs  # type: ignore[attr-defined]
        METHODS[name] = MethodEntry(name, make, config, paper, summary, asks, origin, traits, parity, aliases)
        ALIASES.update(dict.fromkeys(aliases, name))
        # Ours by name, then the others: which module is imported first must not show.
        ours = sorted((entry for entry in METHODS.values() if entry.origin == "ours"), key=lambda entry: entry.name)
        others = [entry for entry in METHODS.values() if entry.origin != "ours"]
        METHODS.clear()
        METHODS.update({entry.name: entry for entry in (*ours, *others)})
        return make

    return add


def find_method(name: str) -> MethodEntry:
    """The entry of that code name or alias.

    Raises:
        MethodError: naming the close matches and all choices.
    """
    if entry := METHODS.get(ALIASES.get(name, name)):
        return entry
    raise MethodError(unknown("method", name, sorted([*METHODS, *ALIASES])))


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
    return entry.make(num_tasks, config, seed)


# Last, since the methods import this file: every module of the folder, the packages (what TorchJD brings) after them.
for _found in sorted(pkgutil.iter_modules(methods.__path__), key=lambda found: found.ispkg):
    importlib.import_module(f"{methods.__name__}.{_found.name}")
load_installed()
