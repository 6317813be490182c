"""The folders that a dashboard may read, and nothing outside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mtrl_surgery.reports.records import FILES, ReportError, runs_below
from mtrl_surgery.runs.shapes import CONFIG, MANIFEST

READ = (MANIFEST, CONFIG, *(f"{name}.jsonl" for name in FILES))
"""What is read of a run folder."""


class Roots:
    """Folders, with the run folders at any depth below them.

    Links are not followed into folders: one that leads to a place below the roots is found there anyway, and one that
    leads elsewhere leads outside.
    """

    def __init__(self, places: Sequence[str | os.PathLike[str]]) -> None:
        """Takes the folders as they are now.

        Raises:
            ReportError: None is named, or one is no folder.
        """
        if not places:
            raise ReportError("name the folder of the runs, such as runs")
        for place in places:
            if not Path(place).is_dir():
                what = "is no folder" if Path(place).exists() else "there is no such folder"
                raise ReportError(f"{os.fspath(place)}: {what} (looked in {Path.cwd()})")
        self.folders = list(dict.fromkeys(Path(place).resolve() for place in places))
        self._names = [os.fspath(place).rstrip(os.sep) or os.sep for place in places]

    def __str__(self) -> str:
        """As they were named."""
        return ", ".join(self._names)

    def find(self) -> tuple[dict[Path, str], list[Path]]:
        """The run folders there are now with their names, and the links that lead outside."""
        found: dict[Path, str] = {}
        links: list[Path] = []
        for root in self.folders:
            for run in runs_below(root, links):
                found.setdefault(run, self._name(run, root))
        return found, [link for link in links if not self.hold(link)]

    def check(self, run: Path) -> None:
        """Whether what will be read of a run folder lies inside.

        Raises:
            ReportError: A link leads outside.
        """
        for name in READ:
            if os.path.islink(run / name) and not self.hold(run / name):
                raise ReportError(f"{run / name} is a link that leads outside of {self}: it is not followed")

    def hold(self, path: Path) -> bool:
        """Whether a path, links and all, ends below one of the roots."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self.folders)

    def _name(self, run: Path, root: Path) -> str:
        own = str(run.relative_to(root)) if run != root else root.name
        return own if len(self.folders) == 1 else f"{root.name}/{own}"
