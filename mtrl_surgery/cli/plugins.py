"""`plugins=my_methods`: the user's modules, imported before a command looks at its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl_surgery.cli.trust import check_trusted
from mtrl_surgery.methods.plugins import PluginError, find_in_working_folder, load, loaded

_KEY = "plugins="


def load_named(words: Sequence[str], keep: bool) -> list[str]:
    """Import the modules of `plugins=a,b` (or `plugins=[a,b]`).

    Args:
        words: Of a command.
        keep: Whether the command stores the key; else it is not shown the word.

    Returns:
        The words that the command is to see.

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
    """Import the modules that a run was made with: the user's own, and those that the command line names.

    Args:
        names: `plugins` of its configuration, as it was read.
        where: The file, for the message.

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
