from __future__ import annotations

import csv
import io
import math
import re

import pytest

from mtrl_surgery.reports.tables import Cell, Column, Section, Table

NASTY = r"a_b & 50% {x} \y $z #1 ~^ |c| <d> *e* `f`"


def example() -> Table:
    columns = (Column("method"), Column("hit_%", 1, "higher"), Column("error", 3, "lower"), Column("seeds"))
    ours = (
        (Cell("plain"), Cell(50.04, 0.26), Cell(0.1), Cell(3)),
        (Cell(NASTY, notes=("odd name",)), Cell(49.96, math.nan), Cell(-0.00001), Cell(2)),
        (Cell("third"), Cell(math.nan), Cell(None, notes=("not measured", "odd name")), Cell(1)),
    )
    theirs = ((Cell("base"), Cell(99.0), Cell(0.5), Cell()), (Cell("other"), Cell(60.0), Cell(0.7), Cell()))
    sections = (Section("ours", ours), Section("theirs", theirs, apart=1))
    return Table("Hits & misses", columns, sections, ("All of it.\nReally.",))


def test_text() -> None:
    lines = example().text().splitlines()
    assert lines[0] == "Hits & misses" and lines[1].split() == ["method", "hit_%", "↑", "error", "↓", "seeds"]
    assert lines[3] == "ours" and re.split(r" {2,}", lines[4]) == ["plain", "50.0 ± 0.3*", "0.100", "3"]
    assert lines[5].startswith(NASTY + "[1]") and lines[5].split()[-3:] == ["50.0*", "0.000*", "2"]
    assert lines[6].split() == ["third", "nan", "-[2][1]", "1"]
    assert len({len(line) for line in (lines[1], lines[2], lines[4])}) == 1
    assert lines[8:] == [
        "theirs",
        lines[9],
        lines[10],
        "[1] odd name",
        "[2] not measured",
        "All of it. Really.",
    ]
    assert lines[9].split() == ["base", "99.0", "0.500", "-"]  # apart: not compared
    assert lines[10].split() == ["other", "60.0", "0.700", "-"]  # and then the only one is the best of nothing


def test_best_is_what_the_shown_digits_say() -> None:
    rows = example().sections[0].rows
    assert [row[1].best for row in rows] == [True, True, False]  # 50.04 and 49.96 are both shown as 50.0
    assert [row[2].best for row in rows] == [False, True, False]
    assert not any(row[3].best for row in rows)


def test_markdown_is_a_table_of_equal_rows() -> None:
    text = example().markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert rows[1] == "| :--- | ---: | ---: | ---: |"
    assert rows[2] == "| *ours* |  |  |  |"
    assert rows[3] == "| plain | **50.0 ± 0.3** | 0.100 | 3 |"
    assert r"a\_b & 50% {x} \\y $z #1 ~^ \|c\| \<d\> \*e\* \`f\`<sup>1</sup>" in rows[4]
    assert "<sup>2</sup> not measured" in text and text.endswith("All of it. Really.\n")


def test_csv_has_all_digits_and_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(example().csv())))
    assert [row["section"] for row in rows] == ["ours"] * 3 + ["theirs"] * 2
    assert rows[0]["hit_%"] == "50.04" and rows[0]["hit_% (standard error)"] == "0.26"
    assert rows[1]["method"] == NASTY and rows[1]["hit_% (standard error)"] == ""
    assert rows[2]["hit_%"] == "nan" and rows[2]["error"] == ""
    assert rows[2]["notes"] == "error: not measured; error: odd name"
    assert "error (standard error)" not in rows[0]


def test_latex_escapes_and_balances() -> None:
    text = example().latex()
    body = text.splitlines()
    assert r"\begin{tabular}{lrrr}" in body and r"\caption{Hits \& misses}" in body
    assert r"method & hit\_\% $\uparrow$ & error $\downarrow$ & seeds \\" in body
    assert r"plain & $\mathbf{50.0 \pm 0.3}$ & $0.100$ & $3$ \\" in body
    escaped = r"a\_b \& 50\% \{x\} \textbackslash{}y \$z \#1 \textasciitilde{}\textasciicircum{} "
    assert escaped + r"\textbar{}c\textbar{} \textless{}d\textgreater{} *e* `f`\textsuperscript{1}" in text
    assert r"third & $\mathrm{nan}$ & --\textsuperscript{2, 1} & $1$ \\" in body
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert text.count(r"\midrule") == 2 and r"\multicolumn{4}{l}{\emph{theirs}} \\" in body
    unescaped = re.sub(r"\\.", "", text)
    assert unescaped.count("$") % 2 == 0 and unescaped.count("{") == unescaped.count("}")


def test_transposed_keeps_the_best_the_digits_and_the_notes() -> None:
    turned = example().transposed()
    assert [column.name for column in turned.columns] == ["method", "plain", NASTY, "third", "base", "other"]
    lines = turned.text().splitlines()
    assert [line.split("  ")[0] for line in lines[3:6]] == ["hit_% ↑", "error ↓", "seeds"]
    assert re.split(r" {2,}", lines[4]) == ["error ↓", "0.100", "0.000*", "-[1][2]", "0.500", "0.700"]
    assert f"{NASTY}: odd name" in lines


def test_a_short_row_is_refused() -> None:
    with pytest.raises(ValueError, match="table 'T': a row of 1 cells, 2 columns"):
        Table("T", (Column("a"), Column("b")), (Section("", ((Cell(1),),)),))


def test_no_rows_at_all_still_renders() -> None:
    empty = Table("", (Column("a", better="higher"),), (Section("", ()),))
    assert empty.text().splitlines()[0] == "a ↑"
    assert "| a ↑ |" in empty.markdown() and r"\toprule" in empty.latex() and empty.csv() == "section,a,notes\n"
