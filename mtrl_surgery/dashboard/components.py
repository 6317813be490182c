"""Parts and tables of a report as Dash components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import VIEWS, Section
from mtrl_surgery.reports.figures.base import Figure, Part
from mtrl_surgery.reports.tables import Table

_AXIS = {
    "ticks": "outside", "ticklen": 4, "showline": True, "automargin": False, "tickfont": {"size": 11},
    "title": {"font": {"size": 12}, "standoff": 8},
}  # fmt: skip
_TEMPLATE = {
    "layout": {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "font": {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 12},
        "coloraxis": {"colorbar": {"tickfont": {"size": 11}, "title": {"font": {"size": 12}}}},
        "legend": {"bgcolor": "rgba(0,0,0,0)"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
    }
}
"""Sizes alone: the colours of text, axes and grid are the style sheet's, so that a theme changes without the server."""

_CONFIG: Any = {
    "responsive": True,
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


def section(own: Section, state: State) -> Component:
    """A part with its title, its caption and the choice of its figures; hidden where there is nothing."""
    if own.content is None:
        waits = [html.P("being made …", className="caption")] if own.pending else []
        return html.Section(waits, id=f"part-{own.name}", hidden=not own.pending)
    if isinstance(own.content, Table):
        return html.Section([html.H3(_title(own.content.title)), *table(own.content)], id=f"part-{own.name}")
    part = own.content
    children: list[Component] = [html.H3(part.title), html.P(part.caption, className="caption")]
    if len(part.figures) > 1:
        children.append(_tabs(part, own, state))
    return html.Section([*children, _graph(part.figures[own.figure], own.name)], id=f"part-{own.name}")


def table(own: Table) -> list[Component]:
    """The table, and what stands under it."""
    heads, sections, foot = own.grid()
    kinds = ["number" if numeric else "" for numeric in own.numeric]
    body: list[Component] = []
    for title, rows in sections:
        if title:
            body.append(html.Tr(html.Th(title, colSpan=len(heads)), className="section"))
        body += [html.Tr([_cell(*cell, kind) for cell, kind in zip(row, kinds, strict=True)]) for row in rows]
    head = html.Thead(html.Tr([html.Th(name, className=kind) for name, kind in zip(heads, kinds, strict=True)]))
    whole = html.Div(html.Table([head, html.Tbody(body)]), className="scroll")
    return [whole, *(html.P(line, className="note") for line in foot)]


def links(state: State) -> list[Component]:
    """The list of views; each keeps what is chosen."""
    return [
        dcc.Link(view.title, href=replace(state, view=name).search(), className="here" if name == state.view else "")
        for name, view in VIEWS.items()
    ]


def chips(state: State) -> list[Component]:
    """What is filtered by; a click takes it back."""
    found: list[Component] = [
        dcc.Link(f"{key}: {', '.join(values)} ✕", href=state.filtered(key, ()).search(), title="any again")
        for key, values in state.where.items()
    ]
    if len(found) > 1:
        found.append(dcc.Link("clear all", href=replace(state, where={}).search(), className="clear"))
    return found


def remarks(said: Sequence[str]) -> Component | None:
    """Sentences before everything else."""
    return html.Ul([html.Li(sentence) for sentence in dict.fromkeys(said)], className="remarks") if said else None


def _cell(text: str, best: bool, notes: tuple[int, ...], kind: str) -> Component:
    shown: list[Any] = [html.B(text) if best else text]
    if notes:
        shown.append(html.Sup(", ".join(map(str, notes))))
    return html.Td(shown, className=kind)


def _tabs(part: Part, own: Section, state: State) -> Component:
    return html.Div(
        [
            dcc.Link(name, href=state.showing(own.name, name).search(), className="on" if name == own.figure else "")
            for name in part.figures
        ],
        className="tabs",
    )


def _graph(figure: Figure, name: str) -> Component:
    layout = {**figure["layout"], "template": _TEMPLATE, "autosize": True, "uirevision": "kept"}
    height = f"{figure['layout']['height']}px"
    graph = dcc.Graph(
        id=f"figure-{name}", figure={**figure, "layout": layout}, config=_CONFIG, style={"height": height}
    )
    return html.Div(graph, className="figure", style={"height": height})


def _title(title: str) -> str:
    """Without the benchmark, which the page names."""
    own = title.partition(": ")[2] or title
    return own[:1].upper() + own[1:]
