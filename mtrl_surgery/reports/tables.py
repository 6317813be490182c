r"""A table of numbers with spreads, footnotes and the best in bold, for the console, Markdown, CSV and LaTeX.

    table = Table("Accuracy", (Column("method"), Column("left", better="higher")), (Section("", rows),))
    print(table.text())

LaTeX needs `\usepackage{booktabs}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal, NamedTuple

import pandas as pd

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
        heads, sections, foot = self._written(_TEXT)
        every = [heads, *(row for _, rows in sections for row in rows)]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]

        def padded(row: list[str]) -> str:
            cells = zip(row, widths, self._numeric(), strict=True)
            return "  ".join(c.rjust(width) if right else c.ljust(width) for c, width, right in cells).rstrip()

        lines = [*_there(self.title), padded(heads)]
        for title, rows in sections:
            lines += ["  ".join("-" * width for width in widths), *_there(title), *map(padded, rows)]
        return "\n".join([*lines, *foot])

    def markdown(self) -> str:
        """A GitHub table, a section's title in a row of its own."""
        heads, sections, foot = self._written(_MARKDOWN)
        rows = [heads, ["---:" if right else ":---" for right in self._numeric()]]
        for title, own in sections:
            rows += [[f"*{title}*", *[""] * (len(heads) - 1)] for title in _there(title)] + own
        lines = [f"### {_markdown(title)}\n" for title in _there(self.title)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([*lines, "", "\n\n".join(foot)]).rstrip() + "\n"

    def csv(self) -> str:
        """All digits, errors in columns of their own, notes in the last; empty where there is no number."""
        rows = [(section.title, row) for section in self.sections for row in section.rows]
        columns: list[tuple[str, list[Any]]] = [("section", [title for title, _ in rows])]
        for place, column in enumerate(self.columns):
            cells = [row[place] for _, row in rows]
            values = ["nan" if isinstance(own.value, float) and math.isnan(own.value) else own.value for own in cells]
            columns.append((column.name, values))
            if any(map(_has_error, cells)):
                columns.append((f"{column.name} (standard error)", [own.error for own in cells]))
            if any(map(_has_interval, cells)):
                ends = [own.interval if own.interval and _has_interval(own) else (None, None) for own in cells]
                columns += [(f"{column.name} (low)", [low for low, _ in ends])]
                columns += [(f"{column.name} (high)", [high for _, high in ends])]
        notes = [
            [f"{column.name}: {note}" for column, cell in zip(self.columns, row, strict=True) for note in cell.notes]
            for _, row in rows
        ]
        columns.append(("notes", ["; ".join(own) for own in notes]))
        frame = pd.DataFrame({place: own for place, (_, own) in enumerate(columns)}, dtype=object)
        return frame.to_csv(index=False, header=[name for name, _ in columns], lineterminator="\n")

    def latex(self) -> str:
        """A booktabs `table` environment."""
        heads, sections, foot = self._written(_LATEX)
        aligned = "".join("r" if right else "l" for right in self._numeric())
        lines = [r"\begin{table}", r"\centering", *(rf"\caption{{{_latex(title)}}}" for title in _there(self.title))]
        lines += [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", " & ".join(heads) + r" \\"]
        for title, rows in sections:
            over = [rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{title}}}}} \\" for title in _there(title)]
            lines += [r"\midrule", *over, *(" & ".join(row) + r" \\" for row in rows)]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [r"\par\smallskip\footnotesize", *(rf"{line}\par" for line in foot)] if foot else []
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def html(self) -> str:
        """An HTML table without classes of its own but `number`, `wide`, `interval` and `section`."""
        heads, sections, foot = self._written(_HTML)
        rows = [row for section in self.sections for row in section.rows]
        style = [' class="number"' if number else "" for number in self._numeric()]
        for at in range(len(heads)):
            if any(isinstance(text := row[at].value, str) and len(text) > _LONG for row in rows):
                style[at] = ' class="wide"'

        def tagged(row: list[str], tag: str) -> str:
            return "".join(f"<{tag}{own}>{cell}</{tag}>" for cell, own in zip(row, style, strict=True))

        lines = ["<table>", f"<thead><tr>{tagged(heads, 'th')}</tr></thead>", "<tbody>"]
        for title, own in sections:
            over = f'<tr class="section"><th colspan="{len(heads)}">{title}</th></tr>'
            lines += [over] * bool(title) + [f"<tr>{tagged(row, 'td')}</tr>" for row in own]
        return "\n".join([*lines, "</tbody>", "</table>", *(f'<p class="note">{line}</p>' for line in foot)])

    def _written(self, markup: Markup) -> tuple[list[str], list[tuple[str, list[list[str]]]], list[str]]:
        """The heads, the sections with their titles and rows, and the foot, as a markup writes them."""
        cells = (cell for section in self.sections for row in section.rows for cell in row)
        notes = {note: at for at, note in enumerate(dict.fromkeys(note for cell in cells for note in cell.notes), 1)}
        sections = [
            (
                markup.escape(_line(section.title)),
                [[markup.cell(*pair, notes) for pair in zip(row, self.columns, strict=True)] for row in section.rows],
            )
            for section in self.sections
        ]
        foot = [f"{markup.note.format(number)} {markup.escape(_line(note))}" for note, number in notes.items()]
        foot += [markup.escape(_line(remark)) for remark in self.remarks]
        return [markup.escape(_head(column)) for column in self.columns], sections, foot

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

    def _numeric(self) -> list[bool]:
        rows = [row for section in self.sections for row in section.rows]
        return [not any(isinstance(row[index].value, str) for row in rows) for index in range(len(self.columns))]


def _head(column: Column) -> str:
    return column.name + {"higher": " ↑", "lower": " ↓", None: ""}[column.better]


def _number(cell: Cell, column: Column) -> str:
    digits = column.digits if cell.digits is None else cell.digits
    shown = f"{cell.value:.{digits}f}" if isinstance(cell.value, float) else str(cell.value)
    if shown.startswith("-") and not shown.strip("-0."):
        shown = shown[1:]  # no minus zero
    if cell.interval is not None and _has_interval(cell):
        low, high = cell.interval
        shown = f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{shown} ± {cell.error:.{digits}f}" if _has_error(cell) else shown


def _has_error(cell: Cell) -> bool:
    return cell.error is not None and not math.isnan(cell.error)


def _has_interval(cell: Cell) -> bool:
    return cell.interval is not None and not any(map(math.isnan, cell.interval))


def _there(title: str) -> list[str]:
    return [title] if title else []


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", _line(text))


def _html(text: str) -> str:
    return re.sub(" (?=[\u2191\u2193])", "\u00a0", escape(text))


_LATEX_CHARACTERS = {
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
    return "".join(_LATEX_CHARACTERS.get(character, character) for character in _line(text))


class Markup(NamedTuple):
    """How a kind of text writes a table's cells.

    Attributes:
        escape: A text.
        number: A number.
        best: The best number of its column.
        note: The numbers of a cell's notes, or of one note in the foot.
        between: Several numbers of notes.
        nothing: A cell without a value.
        digits: What is replaced in a number, by regular expressions.
    """

    escape: Callable[[str], str]
    number: str
    best: str
    note: str
    between: str = ", "
    nothing: str = "-"
    digits: tuple[tuple[str, str], ...] = ()

    def cell(self, cell: Cell, column: Column, notes: Mapping[str, int]) -> str:
        """A cell with the numbers of its notes."""
        if cell.value is None:
            shown = self.nothing
        elif isinstance(cell.value, str):
            shown = self.escape(_line(cell.value))
        else:
            number = _number(cell, column)
            for what, by in self.digits:
                number = re.sub(what, by, number)
            shown = (self.best if cell.best else self.number).format(number)
        return shown + (self.note.format(self.between.join(str(notes[n]) for n in cell.notes)) if cell.notes else "")


_TEXT = Markup(str, "{}", "{}*", "[{}]", between="][")
_MARKDOWN = Markup(_markdown, "{}", "**{}**", "<sup>{}</sup>")
_HTML = Markup(_html, "{}", "<b>{}</b>", "<sup>{}</sup>", digits=((r"\[.*\]", r'<span class="interval">\g<0></span>'),))
_LATEX = Markup(
    _latex, "${}$", r"$\mathbf{{{}}}$", r"\textsuperscript{{{}}}", nothing="--",
    digits=(("±", r"\\pm"), ("nan", r"\\mathrm{nan}"), ("inf", r"\\infty")),
)  # fmt: skip
