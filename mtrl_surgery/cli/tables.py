"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence

from mtrl_surgery.runs.console import printable


def table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """Columns two spaces apart, each as wide as its widest cell.

    Args:
        header: names of the columns.
        rows: cells; str() shows them.
        numbers: columns to set flush right.
    """
    texts = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    texts.insert(1, ["-" * width for width in widths])
    lines = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
    return "\n".join(lines)
