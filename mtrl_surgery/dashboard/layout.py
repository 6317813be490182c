"""What stands on the page before anything is known."""

from __future__ import annotations

from dash import dcc, html
from dash.development.base_component import Component

from mtrl_surgery.reports.benchmarks import SUCCESSES
from mtrl_surgery.reports.figures.curves import NAMES

_SUCCESS = {"any": "at any step", "last": "at the last step"}


def layout(title: str) -> Component:
    """The page: the list of views and the choices on the left, a view on the right."""
    button = html.Button("◐", id="theme", title="light or dark")
    side = html.Nav(
        [
            html.Div([html.Span("mtrl-surgery"), button], className="brand"),
            html.Div(title, className="roots", title=title),
            html.Div(id="views"),
            html.Details([html.Summary("Filter and group"), *_controls()], open=True, id="controls"),
            html.Div(id="status"),
        ]
    )
    view = [
        html.H1(id="title"),
        html.Div(id="remarks"),
        html.Div(id="runs"),
        html.Div(id="sections"),
        html.P(id="nothing", className="caption"),
    ]
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Interval(id="tick"),
            *(dcc.Store(id=name) for name in ("stamp", "rows", "drawn")),
            side,
            html.Main(view),
        ],
        className="app",
    )


def _controls() -> list[Component]:
    return [
        _labelled("Benchmark", dcc.Dropdown(id="benchmark", placeholder="all", searchable=False)),
        _labelled("Filter by", dcc.Dropdown(id="key", placeholder="a key …")),
        dcc.Dropdown(id="values", multi=True, placeholder="any value"),
        html.Div(id="chips"),
        _labelled("Group by", dcc.Dropdown(id="group", multi=True, placeholder="method and options")),
        _labelled(
            "Success",
            dcc.Dropdown(
                id="success",
                options=[{"label": _SUCCESS[name], "value": name} for name in SUCCESSES],
                clearable=False,
                searchable=False,
            ),
        ),
        _labelled(
            "Over seeds and tasks",
            dcc.Dropdown(
                id="aggregate",
                options=[{"label": label, "value": name} for name, label in NAMES.items()],
                clearable=False,
                searchable=False,
            ),
        ),
    ]


def _labelled(text: str, control: Component) -> Component:
    return html.Label([html.Span(text), control])
