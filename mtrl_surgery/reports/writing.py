"""A report's parts as files: figures as PNG and CSV, tables as CSV, LaTeX and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mtrl_surgery.reports.png import png
from mtrl_surgery.reports.report import Chapter


def write_parts(chapters: Sequence[Chapter], folder: Path, pictures: bool = True) -> int:
    """Writes every part, a folder a benchmark where there are several.

    Returns:
        How many files.
    """
    files = 0
    for chapter in chapters:
        own = folder / _name(chapter.benchmark.name) if len(chapters) > 1 else folder
        own.mkdir(parents=True, exist_ok=True)
        for name, part in chapter.parts.items():
            part.numbers().to_csv(own / f"{name}.csv", index=False, lineterminator="\n")
            shown = part.figures.items() if pictures else ()
            for variant, figure in shown:
                stem = f"{name}_{_name(variant)}" if variant else name
                (own / f"{stem}.png").write_bytes(png(figure()))
            files += 1 + len(shown)
        for name, table in chapter.tables.items():
            for suffix, text in (("csv", table.csv()), ("tex", table.latex()), ("md", table.markdown())):
                (own / f"{name}.{suffix}").write_text(text, encoding="utf-8")
                files += 1
    return files


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_").lower()
