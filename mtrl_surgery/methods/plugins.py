"""Modules of the user's that add methods: named on the command line, or by an installed package's entry point.

A process that imports the registry has the methods of every installed package with an entry point in the group
`mtrl_surgery.methods`, and those of the modules that the process which started it was told to import.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from mtrl_surgery.methods.config import MethodError

GROUP = "mtrl_surgery.methods"
"""Entry points of this group name modules to import."""
_INHERITED = "MTRL_SURGERY_PLUGINS"
"""The variable by which processes that this one starts are told what to import."""


class PluginError(MethodError):
    """A module that cannot be imported; the message names it, the reason, the file and the line."""


def load(names: Sequence[str], where: str = "plugins") -> None:
    """Import modules from Python's path or the working folder, here and in the processes that this one starts.

    Args:
        names: Dotted names.
        where: Who named them, for the message.

    Raises:
        PluginError: There is no such module, or it raises.
    """
    if names:
        find_in_working_folder()
    inherited = loaded()
    for name in names:
        shown = f"{where}={name}"
        if not all(part.isidentifier() for part in name.split(".")) or (name.endswith(".py")):
            hint = f"; for the file {name} write {name.removesuffix('.py')}" if name.endswith(".py") else ""
            raise PluginError(f"{shown}: this is no module's name{hint}")
        _import(shown, name, lambda name=name: importlib.import_module(name))  # type: ignore[misc]
        if name not in inherited:
            inherited.append(name)
    os.environ[_INHERITED] = ",".join(inherited)


def find_in_working_folder() -> None:
    """Have modules found in the working folder, however the program was started."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # at the end: a file there must not take the place of a library


def loaded() -> list[str]:
    """The modules that this process, or the one that started it, was told to import."""
    return [name for name in os.environ.get(_INHERITED, "").split(",") if name]


def load_installed() -> None:
    """Import what installed packages and the process that started this one name.

    Raises:
        PluginError: One of them raises.
    """
    for entry in entry_points(group=GROUP):
        _import(f"entry point {entry.name} = {entry.value}", entry.value, entry.load)
    load(loaded())


def _import(shown: str, name: str, importing: Callable[[], object]) -> None:
    try:
        importing()
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(
                f"{shown}: there is no module {error.name!r}, neither in {os.getcwd()} nor on Python's path"
            ) from error
        raise PluginError(_reason(shown, error)) from error
    except (Exception, SystemExit) as error:
        raise PluginError(_reason(shown, error)) from error


def _reason(shown: str, error: BaseException) -> str:
    """`plugins=my_methods: NameError: name 'x' is not defined (my_methods.py, line 3)`."""
    said = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        file, line, said = error.filename, error.lineno, error.msg
    else:
        # The last line that is neither of Python's import machinery nor of this package: the user's own.
        ours = os.path.dirname(os.path.dirname(__file__)) + os.sep
        frames = traceback.extract_tb(error.__traceback__)
        own = [one for one in frames if not one.filename.startswith(("<", ours)) and "importlib" not in one.filename]
        file, line = (own[-1].filename, own[-1].lineno) if own else (None, None)
    place = f" ({file}, line {line})" if file else ""
    return f"{shown}: {type(error).__name__}: {said}{place}"
