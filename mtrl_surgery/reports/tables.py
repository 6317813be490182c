r"""A table of numbers with spreads, footnotes and the best in bold, for the console, Markdown, CSV and LaTeX.

    table = Table("Accuracy", (Column("method"), Column("left", better="higher")), (Section("", rows),))
    print(table.text())

LaTeX needs `\usepackage{booktabs}`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

_LONG = 60
"""Characters of a text from which on its column has several lines."""


@dataclass(frozen=True)
class Column:
    """A column, or after `Table.transposed` a row.

    Attributes:
        name: Its head; an arrow after it shows which way is better.
        digits: After the point.
        better: Which numbers are the best; None: none of them.
    """

    name: str
    digits: int = 2
    better: Literal["higher", "lower"] | None = None


@dataclass(frozen=True)
class Cell:
    """What stands in one place: a number, a text, or nothing.

    Attributes:
        value: NaN is shown as nan, None as a dash.
        error: A standard error; None or NaN: not shown.
        notes: Remarks, numbered by the table; the same remark has the same number everywhere.
        digits: After the point; None: as many as the column has.
        best: Set by the table.
        interval: The lower and the upper end of an interval, shown in brackets; None or NaN: not shown.
    """

    value: int | float | str | None = None
    error: float | None = None
    notes: tuple[str, ...] = ()
    digits: int | None = None
    best: bool = False
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Section:
    """Rows that are compared with each other, under a title of their own.

    Attributes:
        title: Over the rows; may be empty.
        rows: A cell a column.
        apart: The first so many rows are shown and not compared, such as a baseline.
    """

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    apart: int = 0


@dataclass(frozen=True)
class Table:
    """Columns, sections and what is to be said under them.

    Attributes:
        title: Over the table.
        columns: What the cells of a row are.
        sections: Of at least one cell a column; the best of each section are bold.
        remarks: Sentences under the table that belong to no cell.

    Raises:
        ValueError: A row that is not as long as `columns`.
    """

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for section in self.sections:
            for row in section.rows:
                if len(row) != len(self.columns):
                    raise ValueError(f"table {self.title!r}: a row of {len(row)} cells, {len(self.columns)} columns")
        object.__setattr__(self, "sections", tuple(self._with_best(section) for section in self.sections))

    def transposed(self) -> Table:
        """Rows as columns: for more metrics than fit side by side. The first column's cells become the heads."""
        heads = [row[0] for section in self.sections for row in section.rows]
        columns = (Column(self.columns[0].name), *(Column(str(head.value), 2) for head in heads))
        body = []
        for index, column in enumerate(self.columns[1:], 1):
            cells = [row[index] for section in self.sections for row in section.rows]
            digits = [column.digits if cell.digits is None else cell.digits for cell in cells]
            numbers = (replace(cell, digits=own) for cell, own in zip(cells, digits, strict=True))
            body.append((Cell(_head(column)), *numbers))
        said = tuple(f"{head.value}: {note}" for head in heads for note in head.notes)
        return Table(self.title, columns, (Section("", tuple(body)),), (*said, *self.remarks))

    def text(self) -> str:
        """Plain text; `*` marks the best and `[1]` a note."""
        table = [[_head(column) for column in self.columns]]
        breaks = {0: ""}
        notes = self._notes()
        for section in self.sections:
            breaks[len(table)] = section.title
            for cells in section.rows:
                table.append([_plain(cell, column, notes) for cell, column in zip(cells, self.columns, strict=True)])
        widths = [max(len(row[index]) for row in table) for index in range(len(self.columns))]
        numeric = self._numeric()
        lines = [self.title] if self.title else []
        for number, row in enumerate(table):
            if number in breaks and number:
                lines.append("  ".join("-" * width for width in widths))
                lines += [breaks[number]] if breaks[number] else []
            padded = zip(row, widths, numeric, strict=True)
            lines.append("  ".join(c.rjust(width) if right else c.ljust(width) for c, width, right in padded).rstrip())
        return "\n".join([*lines, *self._foot(notes, lambda number: f"[{number}] ", str)])

    def markdown(self) -> str:
        """A GitHub table, a section's title in a row of its own."""
        notes = self._notes()
        lines = [f"### {_markdown(self.title)}", ""] if self.title else []
        lines.append(_bar(_markdown(_head(column)) for column in self.columns))
        lines.append(_bar("---:" if right else ":---" for right in self._numeric()))
        for section in self.sections:
            if section.title:
                lines.append(_bar([f"*{_markdown(section.title)}*", *[""] * (len(self.columns) - 1)]))
            for row in section.rows:
                lines.append(_bar(_marked(cell, column, notes) for cell, column in zip(row, self.columns, strict=True)))
        foot = self._foot(notes, lambda number: f"<sup>{number}</sup> ", _markdown)
        return "\n".join([*lines, "", *("\n\n".join(foot).splitlines())]).rstrip() + "\n"

    def csv(self) -> str:
        """All digits, errors in columns of their own, notes in the last; empty where there is no number."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        rows = [(section.title, row) for section in self.sections for row in section.rows]
        places = range(len(self.columns))
        errors = [any(_has_error(row[index]) for _, row in rows) for index in places]
        intervals = [any(_has_interval(row[index]) for _, row in rows) for index in places]
        head = ["section"]
        for column, has_error, has_interval in zip(self.columns, errors, intervals, strict=True):
            head += [column.name, f"{column.name} (standard error)"] if has_error else [column.name]
            head += [f"{column.name} (low)", f"{column.name} (high)"] if has_interval else []
        writer.writerow([*head, "notes"])
        for title, row in rows:
            line: list[object] = [title]
            for cell, has_error, has_interval in zip(row, errors, intervals, strict=True):
                line.append("" if cell.value is None else cell.value)
                line += [cell.error if _has_error(cell) else ""] if has_error else []
                line += (cell.interval if _has_interval(cell) and cell.interval else ("", "")) if has_interval else ()
            pairs = zip(self.columns, row, strict=True)
            line.append("; ".join(f"{column.name}: {note}" for column, cell in pairs for note in cell.notes))
            writer.writerow(line)
        return buffer.getvalue()

    def latex(self) -> str:
        """A booktabs `table` environment."""
        notes = self._notes()
        aligned = "".join("r" if right else "l" for right in self._numeric())
        lines = [r"\begin{table}", r"\centering"]
        lines += [rf"\caption{{{_latex(self.title)}}}"] if self.title else []
        lines += [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule"]
        lines.append(" & ".join(_latex(_head(column)) for column in self.columns) + r" \\")
        for section in self.sections:
            lines.append(r"\midrule")
            if section.title:
                lines.append(rf"\multicolumn{{{len(self.columns)}}}{{l}}{{\emph{{{_latex(section.title)}}}}} \\")
            for row in section.rows:
                cells = (_typeset(cell, column, notes) for cell, column in zip(row, self.columns, strict=True))
                lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        foot = self._foot(notes, lambda number: rf"\textsuperscript{{{number}}} ", _latex)
        lines += [r"\par\smallskip\footnotesize", *(rf"{line}\par" for line in foot)] if foot else []
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def html(self) -> str:
        """An HTML table without classes of its own but `number`, `wide`, `interval` and `section`."""
        notes = self._notes()
        rows = [row for section in self.sections for row in section.rows]
        style = [' class="number"' if number else "" for number in self._numeric()]
        for at in range(len(self.columns)):
            if any(isinstance(text := row[at].value, str) and len(text) > _LONG for row in rows):
                style[at] = ' class="wide"'
        lines = ["<table>", "<thead><tr>"]
        heads = [
            escape(_head(column)).replace(" \u2191", "\u00a0\u2191").replace(" \u2193", "\u00a0\u2193")
            for column in self.columns
        ]
        lines += [f"<th{own}>{head}</th>" for head, own in zip(heads, style, strict=True)]
        lines += ["</tr></thead>", "<tbody>"]
        for section in self.sections:
            if section.title:
                title = escape(section.title)
                lines.append(f'<tr class="section"><th colspan="{len(self.columns)}">{title}</th></tr>')
            for row in section.rows:
                cells = zip(row, self.columns, style, strict=True)
                inner = "".join(f"<td{own}>{_tagged(cell, column, notes)}</td>" for cell, column, own in cells)
                lines.append(f"<tr>{inner}</tr>")
        lines += ["</tbody>", "</table>"]
        foot = self._foot(notes, lambda number: f"<sup>{number}</sup> ", escape)
        return "\n".join([*lines, *(f'<p class="note">{line}</p>' for line in foot)])

    def _with_best(self, section: Section) -> Section:
        rows = [list(row) for row in section.rows]
        for index, column in enumerate(self.columns):
            known = {
                number: round(cell.value, column.digits if cell.digits is None else cell.digits)
                for number, cell in enumerate(row[index] for row in rows)
                if number >= section.apart and isinstance(cell.value, int | float) and not math.isnan(cell.value)
            }
            if column.better is None or len(known) < 2:  # the only one is the best of nothing
                continue
            best = max(known.values()) if column.better == "higher" else min(known.values())
            for number in (number for number, value in known.items() if value == best):
                rows[number][index] = replace(rows[number][index], best=True)
        return replace(section, rows=tuple(map(tuple, rows)))

    def _notes(self) -> dict[str, int]:
        cells = (cell for section in self.sections for row in section.rows for cell in row)
        return {note: number for number, note in enumerate(dict.fromkeys(n for cell in cells for n in cell.notes), 1)}

    def _foot(self, notes: dict[str, int], mark: Callable[[int], str], escape: Callable[[str], str]) -> list[str]:
        numbered = [mark(number) + escape(_line(note)) for note, number in notes.items()]
        return [*numbered, *(escape(_line(remark)) for remark in self.remarks)]

    def _numeric(self) -> list[bool]:
        rows = [row for section in self.sections for row in section.rows]
        return [not any(isinstance(row[index].value, str) for row in rows) for index in range(len(self.columns))]


def _head(column: Column) -> str:
    return column.name + {"higher": " ↑", "lower": " ↓", None: ""}[column.better]


def _plain(cell: Cell, column: Column, notes: dict[str, int]) -> str:
    marks = "".join(f"[{notes[note]}]" for note in cell.notes)
    return _number(cell, column, " ± ") + ("*" if cell.best else "") + marks


def _number(cell: Cell, column: Column, between: str) -> str:
    digits = column.digits if cell.digits is None else cell.digits
    if cell.value is None:
        return "-"
    if isinstance(cell.value, str):
        return _line(cell.value)
    shown = f"{cell.value:.{digits}f}" if isinstance(cell.value, float) else str(cell.value)
    if shown.startswith("-") and not shown.strip("-0."):
        shown = shown[1:]  # no minus zero
    if cell.interval is not None and _has_interval(cell):
        low, high = cell.interval
        shown = f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{shown}{between}{cell.error:.{digits}f}" if _has_error(cell) else shown


def _has_error(cell: Cell) -> bool:
    return cell.error is not None and not math.isnan(cell.error)


def _has_interval(cell: Cell) -> bool:
    return cell.interval is not None and not any(map(math.isnan, cell.interval))


def _marked(cell: Cell, column: Column, notes: dict[str, int]) -> str:
    shown = _markdown(_number(cell, column, " ± ")) if isinstance(cell.value, str) else _number(cell, column, " ± ")
    marks = ", ".join(str(notes[note]) for note in cell.notes)
    return (f"**{shown}**" if cell.best else shown) + (f"<sup>{marks}</sup>" if marks else "")


def _tagged(cell: Cell, column: Column, notes: dict[str, int]) -> str:
    value, bracket, interval = escape(_number(cell, column, " ± ")).partition(" [" if _has_interval(cell) else "\0")
    shown = f'{value} <span class="interval">[{interval}</span>' if bracket else value
    marks = ", ".join(str(notes[note]) for note in cell.notes)
    return (f"<b>{shown}</b>" if cell.best else shown) + (f"<sup>{marks}</sup>" if marks else "")


def _typeset(cell: Cell, column: Column, notes: dict[str, int]) -> str:
    if isinstance(cell.value, str):
        shown = _latex(_line(cell.value))
    elif cell.value is None:
        shown = "--"
    else:
        number = _number(cell, column, r" \pm ").replace("nan", r"\mathrm{nan}").replace("inf", r"\infty")
        shown = rf"$\mathbf{{{number}}}$" if cell.best else f"${number}$"
    marks = ", ".join(str(notes[note]) for note in cell.notes)
    return rf"{shown}\textsuperscript{{{marks}}}" if marks else shown


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", _line(text))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _line(text))
