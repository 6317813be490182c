"""The code of others: `plugins=my_methods`, and what a run folder may have this program import.

A run folder may come from anybody, and its configuration names code: `env.factory`, tasks such as `module:Env-v0`,
modules with methods. Who may write a name there may otherwise run anything that is installed (`os:system` with a
command as the task). So only the user's own modules are imported, unless `trust=true` says so; what the command line
names itself is the user's wish, and is not asked about.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType
from typing import Any

from mtrl_surgery import PACKAGES
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.methods.plugins import PluginError, find_in_working_folder, load, loaded


def check_trusted(names: Iterable[str], run: Path, trust: bool, key: str, remedy: str = "add trust=true") -> None:
    """Whether what a run folder names may be imported and called.

    Nothing is imported before it is known to lie on the user's own path: outside of Python and its installed packages,
    of this package, and of the run folder itself.

    Args:
        names: `package.module`, or `package.module:callable`, which must be a function or a class defined in there.
        run: The folder.
        trust: `trust=true` was said.
        key: Where the run's configuration has the names, for the message.
        remedy: What to do about it, for the message.

    Raises:
        SettingsError: One is not to be trusted; says why, and what to do.
    """
    for name in () if trust else names:
        if why := _objection(name, run):
            raise SettingsError(
                f"{run}: {key}={name!r} would run code that is not yours: {why}; "
                f"if you know where the folder comes from, {remedy}"
            )


def _objection(name: str, run: Path) -> str | None:
    module, colon, attribute = name.partition(":")
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return f"{module!r} is no module's name"
    if parts[0] in PACKAGES:
        return f"{parts[0]} is a package of this program"
    search: Sequence[str] | None = None
    for depth in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:depth]), search)
        if spec is None:
            return f"there is no module {'.'.join(parts[:depth])!r} on Python's path"
        places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
        if not places:
            return f"{parts[0]} is a part of Python"
        for place in places:
            if why := _foreign(Path(os.path.realpath(place)), run):
                return f"{'.'.join(parts[:depth])} {why}"
        search = list(spec.submodule_search_locations or ())
    if not colon:
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        return f"{module} cannot be imported: {type(error).__name__}: {error}"
    if not isinstance(found, FunctionType | type):
        return f"{attribute!r} is no function and no class in {module}"
    if found.__module__ != module:
        return f"{attribute!r} is defined in {found.__module__}, not in {module}"
    return None


def _spec(name: str, search: Sequence[str] | None) -> ModuleSpec | None:
    """Where a module would come from; not even its packages are imported for that."""
    if search is None and (name in sys.builtin_module_names or name in sys.stdlib_module_names):
        return ModuleSpec(name, None, origin="built-in")
    return PathFinder.find_spec(name, search)


def _foreign(place: Path, run: Path) -> str | None:
    if place.is_relative_to(os.path.realpath(run)):
        return "lies in the run folder itself"
    if {"site-packages", "dist-packages"}.intersection(place.parts):
        return "is an installed package"
    if any(place.is_relative_to(os.path.realpath(folder)) for folder in _pythons()):
        return "is a part of Python"
    return None


def _pythons() -> list[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    return [*found, *site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]


_KEY = "plugins="


def load_named(words: Sequence[str], keep: bool) -> list[str]:
    """Import the modules of `plugins=a,b` (or `plugins=[a,b]`); return the words that the command is to see.

    Args:
        words: Of a command.
        keep: Whether the command stores the key; else it is not shown the word.

    Raises:
        PluginError: A module cannot be imported.
    """
    named = [word for word in words if word.startswith(_KEY)]
    if not named:
        return list(words)
    value = named[-1].removeprefix(_KEY)  # the last one counts, as of every key
    names = [one.strip(" '\"") for one in value.removeprefix("[").removesuffix("]").split(",")]
    names = [] if value == "null" else list(dict.fromkeys(name for name in names if name))
    load(names)
    rest = [word for word in words if word not in named]
    return [*rest, f"{_KEY}[{','.join(names)}]"] if keep else rest


def load_stored(names: Any, where: str | Path) -> None:
    """Import the modules that a run was made with: `plugins` in `where`, its configuration.

    Raises:
        PluginError: They are no list of names, or one cannot be imported.
        SettingsError: One is not the user's own.
    """
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PluginError(f"{where}: plugins={names!r} is no list of modules' names")
    if not names:
        return
    find_in_working_folder()
    place = Path(where)
    run = next((folder for folder in place.parents if (folder / "config.yaml").exists()), place.parent)
    foreign = [name for name in names if name not in loaded()]
    check_trusted(foreign, run, False, "plugins", f"name it yourself, plugins={','.join(names)}")
    load(names, f"{where}: plugins")
