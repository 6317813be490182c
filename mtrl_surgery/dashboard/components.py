"""Parts and tables of a report as Dash components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dash import dcc, html
from dash.development.base_component import Component

from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import VIEWS
from mtrl_surgery.reports.figures.base import Part
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


class Drawn(NamedTuple):
    """A part on the page.

    Attributes:
        frame: The same as long as only its numbers change: then the page keeps it, zoom and all.
        inside: Its components.
        place: The one that shows the numbers.
        numbers: That one's properties.
    """

    frame: str
    inside: list[Component]
    place: str
    numbers: dict[str, Any]


def sections(view: str) -> list[Component]:
    """Places for a view's parts, each with a clock and a memory of its own."""
    return [
        html.Div(
            [
                html.Section(html.P("being made …", className="caption"), id=f"part-{name}"),
                dcc.Interval(id=f"tick-{name}"),
                dcc.Store(id=f"stamp-{name}"),
            ]
        )
        for name in VIEWS[view].parts
    ]


def drawn(name: str, content: Part | Table, state: State) -> Drawn:
    """A part as components: its frame, what stays when its numbers change, and where the numbers are."""
    if isinstance(content, Table):
        table = {"data-table": f'<div class="scroll">{content.html()}</div>'}
        inside: list[Component] = [html.H3(_title(content.title)), html.Div(id=f"table-{name}", **table)]  # type: ignore[arg-type]
        return Drawn(content.title, inside, f"table-{name}", table)
    asked = state.show.get(name, "")
    shown = asked if asked in content.figures else next(iter(content.figures))
    figure = content.figures[shown]()
    height = f"{figure['layout']['height']}px"
    layout = {**figure["layout"], "template": _TEMPLATE, "autosize": True, "uirevision": "kept"}
    numbers = {"figure": {**figure, "layout": layout}}
    inside = [html.H3(content.title), html.P(content.caption, className="caption")]
    if len(content.figures) > 1:
        inside.append(_tabs(name, list(content.figures), shown, state))
    graph = dcc.Graph(id=f"figure-{name}", config=_CONFIG, style={"height": height}, figure=numbers["figure"])
    inside.append(html.Div(graph, className="figure", style={"height": height}))
    frame = repr((content.title, content.caption, list(content.figures), shown, height))
    return Drawn(frame, inside, f"figure-{name}", numbers)


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


def _tabs(name: str, figures: Sequence[str], shown: str, state: State) -> Component:
    links = [
        dcc.Link(figure, href=state.showing(name, figure).search(), className="on" if figure == shown else "")
        for figure in figures
    ]
    return html.Div(links, className="tabs")


def _title(title: str) -> str:
    """Without the benchmark, which the page names."""
    own = title.partition(": ")[2] or title
    return own[:1].upper() + own[1:]
