"""One self-contained HTML page: Plotly inside, once; nothing is loaded from anywhere, a content policy sees to it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.report import Chapter
from mtrl_surgery.reports.tables import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"

_TITLES = {
    "summary": "Summary",
    "published": "Published numbers",
    "tasks": "Task by task, in numbers",
    "runs": "Runs",
    "differences": "Configuration differences",
    "paper_results": "The papers' table, Delta-m",
    "paper_delta": "Delta-m of every metric and task",
    "paper_metrics": "Every metric",
}


def page(title: str, facts: str, chapters: Sequence[Chapter], remarks: Sequence[str]) -> str:
    """The page's text.

    Args:
        title: At the top, and of the browser's tab.
        facts: A line under it.
        chapters: In order.
        remarks: Sentences before everything else.

    Raises:
        ReportError: Plotly is not installed.
    """
    figures: dict[str, Any] = {}
    body = "\n".join(_chapter(own, figures, several=len(chapters) > 1) for own in chapters)
    said = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    parts = {
        "TITLE": escape(title),
        "POLICY": _POLICY,
        "STYLE": _asset("page.css"),
        "FACTS": escape(facts),
        "NAV": "\n".join(_nav(own, several=len(chapters) > 1) for own in chapters),
        "REMARKS": f'<ul class="remarks">{said}</ul>' if said else "",
        "BODY": body,
        "FIGURES": _json(figures),
        "PLOTLY": plotly_js(),
        "SCRIPT": _asset("page.js"),
    }
    # One pass, so that what is put in is never looked at for places to fill.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found.group(1)], _asset("page.html"))


def plotly_js() -> str:
    """Plotly's JavaScript."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _chapter(chapter: Chapter, figures: dict[str, Any], several: bool) -> str:
    name = chapter.benchmark.name
    lines = [f'<h2 class="chapter" id="{_id(name)}">{escape(name)}</h2>'] if several else []
    for key in chapter.order:
        anchor = _id(name, key)
        lines.append(f'<section id="{anchor}">')
        if key in chapter.parts:
            lines.append(_part(chapter.parts[key], anchor, figures))
        else:
            lines.append(_table(chapter.tables[key], key))
        lines.append("</section>")
    return "\n".join(lines)


def _part(part: Part, anchor: str, figures: dict[str, Any]) -> str:
    lines = [f"<h3>{escape(part.title)}</h3>", f'<p class="caption">{escape(part.caption)}</p>']
    names = list(part.figures)
    if len(names) > 1:
        on = ["" if place else ' class="on"' for place in range(len(names))]
        buttons = (
            f'<button type="button" data-show="{anchor}-{place}"{on[place]}>{escape(name)}</button>'
            for place, name in enumerate(names)
        )
        lines.append(f'<div class="tabs">{"".join(buttons)}</div>')
    for place, make in enumerate(part.figures.values()):
        figures[f"{anchor}-{place}"] = figure = make()
        height = figure["layout"]["height"]
        hidden = " hidden" if place else ""
        if len(names) > 1:
            lines.append(f'<p class="variant">{escape(names[place])}</p>')  # on paper, where there are no buttons
        lines.append(f'<div class="figure" id="{anchor}-{place}" style="height:{height}px"{hidden}></div>')
    return "\n".join(lines)


def _table(table: Table, key: str) -> str:
    title, body = escape(_TITLES.get(key, table.title)), f'<div class="scroll">{table.html()}</div>'
    if key == "published":  # more rows than all else together
        return f"<details><summary><h3>{title}</h3></summary>\n{body}</details>"
    return f"<h3>{title}</h3>\n{body}"


def _nav(chapter: Chapter, several: bool) -> str:
    name = chapter.benchmark.name
    lines = [f'<a class="chapter" href="#{_id(name)}">{escape(name)}</a>'] if several else []
    for key in chapter.order:
        title = chapter.parts[key].title if key in chapter.parts else _TITLES.get(key, chapter.tables[key].title)
        lines.append(f'<a href="#{_id(name, key)}">{escape(title)}</a>')
    return "\n".join(lines)


def _id(*parts: str) -> str:
    return "-".join(re.sub(r"[^\w-]", "-", part) for part in parts)


def _json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return files("mtrl_surgery.reports").joinpath("assets", name).read_text(encoding="utf-8")
