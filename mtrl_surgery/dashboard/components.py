"""Parts and tables of a report as Dash components."""

from __future__ import annotations

import json
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
    return html.Section(id=f"part-{own.name}", **_inside(own, state))


def replaced(own: Section, state: State) -> tuple[str, dict[str, Any]]:
    """The section's component and its new properties. Its neighbours stay: Dash would draw a whole list anew."""
    return f"part-{own.name}", _inside(own, state)


def _inside(own: Section, state: State) -> dict[str, Any]:
    if own.content is None:
        waits = [html.P("being made …", className="caption")] if own.pending else []
        return {"children": waits, "hidden": not own.pending}
    if isinstance(own.content, Table):
        place = html.Div(id=f"table-{own.name}", **{"data-table": _table(own.content)})  # type: ignore[arg-type]
        return {"children": [html.H3(_title(own.content.title)), place], "hidden": False}
    part = own.content
    children: list[Component] = [html.H3(part.title), html.P(part.caption, className="caption")]
    if len(part.figures) > 1:
        children.append(_tabs(part, own, state))
    return {"children": [*children, _graph(own, part)], "hidden": False}


def frame(own: Section) -> str:
    """What of a section stays when its numbers change: the same as long as `renewed` is enough; empty for none."""
    if isinstance(own.content, Part):
        part = own.content
        height = part.figures[own.figure]["layout"]["height"]
        return repr((part.title, part.caption, list(part.figures), own.figure, height))
    return repr(own.content.title) if own.content is not None else ""


def renewed(own: Section) -> tuple[str, dict[str, Any]]:
    """The component in a section that shows the numbers, and its new properties: the page keeps it, zoom and all."""
    if isinstance(own.content, Part):
        return f"figure-{own.name}", {"figure": _drawable(own.content.figures[own.figure])}
    assert own.content is not None
    return f"table-{own.name}", {"data-table": _table(own.content)}


def _table(own: Table) -> str:
    """For the page's script: thousands of cells are too many components for Dash."""
    heads, sections, foot = own.grid()
    return json.dumps({"heads": heads, "kinds": own.kinds, "sections": sections, "foot": foot}, allow_nan=False)


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


def _tabs(part: Part, own: Section, state: State) -> Component:
    return html.Div(
        [
            dcc.Link(name, href=state.showing(own.name, name).search(), className="on" if name == own.figure else "")
            for name in part.figures
        ],
        className="tabs",
    )


def _graph(own: Section, part: Part) -> Component:
    figure = part.figures[own.figure]
    height = f"{figure['layout']['height']}px"
    graph = dcc.Graph(id=f"figure-{own.name}", figure=_drawable(figure), config=_CONFIG, style={"height": height})
    return html.Div(graph, className="figure", style={"height": height})


def _drawable(figure: Figure) -> Figure:
    return {**figure, "layout": {**figure["layout"], "template": _TEMPLATE, "autosize": True, "uirevision": "kept"}}


def _title(title: str) -> str:
    """Without the benchmark, which the page names."""
    own = title.partition(": ")[2] or title
    return own[:1].upper() + own[1:]
