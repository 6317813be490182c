"""Every method by its code name. Importing this file does not import torch; making a method does."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mtrl_surgery.methods.config import (
    CagradConfig,
    FamoConfig,
    LsConfig,
    MethodConfig,
    MethodError,
    PcgradConfig,
    SamgsConfig,
)

if TYPE_CHECKING:
    from mtrl_surgery.methods.base import AnyMethod

Needs = Literal["losses", "gramian", "jacobian"]


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
    """

    name: str
    paper: str
    needs: Needs
    module: str
    config: type[MethodConfig]
    summary: str
    origin: str = "ours"

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


def register(entry: MethodEntry) -> MethodEntry:
    """Adds a method.

    Raises:
        MethodError: if the name is taken, or is not the one in its config.
    """
    if entry.name in METHODS:
        raise MethodError(f"method {entry.name!r} is registered already, as {METHODS[entry.name].module}")
    if entry.config().name != entry.name:
        raise MethodError(f"method {entry.name!r}: its config calls itself {entry.config().name!r}")
    METHODS[entry.name] = entry
    return entry


def find_method(name: str) -> MethodEntry:
    """The entry of that name.

    Raises:
        MethodError: naming the close matches and all choices.
    """
    if name in METHODS:
        return METHODS[name]
    close = difflib.get_close_matches(name, METHODS, n=1)
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


_HERE = "mtrl_surgery.methods"
register(MethodEntry("ls", "-", "losses", f"{_HERE}.ls:LinearScalarization", LsConfig, "equal weights, no surgery"))
register(
    MethodEntry(
        "samgs",
        "arXiv 2506.06130",
        "jacobian",
        f"{_HERE}.samgs:SAMGS",
        SamgsConfig,
        "equalises the norms of dissimilar gradients, else weights each coordinate by its momentum",
    )
)
register(
    MethodEntry(
        "pcgrad",
        "arXiv 2001.06782",
        "gramian",
        f"{_HERE}.pcgrad:PCGrad",
        PcgradConfig,
        "projects each gradient off those it conflicts with, in random order",
    )
)
register(
    MethodEntry(
        "cagrad",
        "arXiv 2110.14048",
        "gramian",
        f"{_HERE}.cagrad:CAGrad",
        CagradConfig,
        "the best worst-task direction in a ball around the mean gradient",
    )
)
register(
    MethodEntry(
        "famo",
        "arXiv 2306.03792",
        "losses",
        f"{_HERE}.famo:FAMO",
        FamoConfig,
        "learns weights so that all log-losses fall at the same rate",
    )
)
