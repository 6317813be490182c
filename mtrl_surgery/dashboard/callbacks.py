"""What happens when the address or a choice changes, and every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update, set_props

from mtrl_surgery.dashboard.components import chips, drawn, links, remarks, sections
from mtrl_surgery.dashboard.state import State as Address
from mtrl_surgery.dashboard.views import VIEWS, Views, files_of

_SOON_MS, _LOADING_MS = 300, 1000
"""Until the next question while no run has been read yet, and while more are being read: answers hold up reading."""
_MINUTE_S = 60
"""A run falls silent without a new row: the table of runs is looked at again so often."""

_CONTROLS = ("benchmark", "key", "values", "group", "success", "aggregate")
_LISTS = ("benchmark", "key", "values", "group")
"""The controls whose choices depend on the runs."""
_SAME_CHOICES = {"values": dict.fromkeys(_CONTROLS, no_update), "options": dict.fromkeys(_LISTS, no_update)}
_SAME: dict[str, Any] = {
    **dict.fromkeys(
        ("search", "title", "remarks", "rows", "sections", "nothing", "status", "stamp", "views", "chips"), no_update
    ),
    **_SAME_CHOICES,
}

_log = logging.getLogger(__name__)


def register(app: Dash, views: Views) -> None:
    """Wires the page to the views.

    One callback draws the page around the parts, and one each part. The page's choices are inputs and outputs alike: a
    choice changes the address, and an address (a link, the back button) changes the choices. A clock stands while its
    callback is answered, since Dash drops an answer that a newer question overtakes.
    """

    @app.callback(
        {
            "search": Output("url", "search"),
            "title": Output("title", "children"),
            "remarks": Output("remarks", "children"),
            "rows": Output("rows", "data"),
            "sections": Output("sections", "children"),
            "nothing": Output("nothing", "children"),
            "status": Output("status", "children"),
            "stamp": Output("stamp", "data"),
            "interval": Output("tick", "interval"),
            "views": Output("views", "children"),
            "chips": Output("chips", "children"),
            "values": {name: Output(name, "value") for name in _CONTROLS},
            "options": {name: Output(name, "options") for name in _LISTS},
        },
        {
            "search": Input("url", "search"),
            "tick": Input("tick", "n_intervals"),
            "chosen": {name: Input(name, "value") for name in _CONTROLS},
            "stamp": State("stamp", "data"),
        },
        running=[(Output("tick", "disabled"), True, False)],
    )
    def page(search: str | None, tick: int | None, chosen: dict[str, Any], stamp: dict[str, Any] | None) -> Any:
        """Everything around the parts that differs from what the page has."""
        by = {name.partition(".")[0] for name in ctx.triggered_prop_ids}
        with views.follower.asked():
            return _page(views, search, {name: chosen[name] for name in _CONTROLS if name in by}, chosen, stamp or {})

    for name in dict.fromkeys(part for view in VIEWS.values() for part in view.parts):
        app.callback(
            Output(f"part-{name}", "children"),
            Output(f"part-{name}", "hidden"),
            Output(f"stamp-{name}", "data"),
            Output(f"tick-{name}", "interval"),
            Input("url", "search"),
            Input(f"tick-{name}", "n_intervals"),
            State(f"stamp-{name}", "data"),
            running=[(Output(f"tick-{name}", "disabled"), True, False)],
        )(partial(_answer, views, name))
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("mtrl", "runs"), Output("drawn", "data"), Input("rows", "data"), Input("url", "search")
    )


def _answer(views: Views, name: str, search: str | None, tick: int | None, stamp: dict[str, Any] | None) -> Any:
    with views.follower.asked():
        return _part(views, name, search, stamp or {})


def _part(views: Views, name: str, search: str | None, stamp: Mapping[str, Any]) -> Any:
    """A part's components, whether it is hidden, what they were made from, and when to ask again."""
    state, _ = Address.parse(search, VIEWS)
    files = VIEWS[state.view].parts.get(name)
    interval = _interval(views)
    if files is None:
        return no_update, no_update, no_update, interval  # another view is on its way
    now = {"search": search, "versions": [views.follower.versions[file] for file in ("runs", *files)]}
    if all(stamp.get(key) == value for key, value in now.items()):
        return no_update, no_update, no_update, interval
    try:
        content = views.part(name, state)
        shown = drawn(name, content, state) if content is not None else None
    except Exception as error:  # one figure that fails must not take the page with it
        _log.exception("making %s failed", name)
        said = f"{name} cannot be drawn: {type(error).__name__}: {error}"
        return html.P(said, className="caption"), False, {**now, "frame": ""}, interval
    if shown is None:
        return None, True, {**now, "frame": ""}, interval
    stamp_now = {**now, "frame": shown.frame}
    if stamp.get("frame") == shown.frame and stamp.get("search") == search:
        set_props(shown.place, shown.numbers)
        return no_update, no_update, stamp_now, interval
    return shown.inside, False, stamp_now, interval


def _page(
    views: Views, search: str | None, changed: Mapping[str, Any], chosen: Mapping[str, Any], stamp: Mapping[str, Any]
) -> dict[str, Any]:
    follower = views.follower
    address, said = Address.parse(search, VIEWS)
    state = _steered(address, changed, chosen)
    follower.want(files_of(state.view))
    read, found = follower.progress()
    loading = read < found or not follower.looked
    minute = int(time.time() // _MINUTE_S) if state.view == "overview" else 0
    steering = {"search": state.search(), "runs": follower.versions["runs"], "key": chosen["key"]}
    versions = [follower.versions[file] for file in files_of(state.view)]
    now = {**steering, "asked": search, "versions": versions, "read": [read, found, loading], "minute": minute}
    interval = _interval(views)
    if not changed and all(stamp.get(name) == value for name, value in now.items()):
        return {**_SAME, "interval": interval}
    benchmark, title = views.benchmark(state), VIEWS[state.view].title
    parts = VIEWS[state.view].parts
    needed = ", which compares methods" if state.view == "methods" else ""
    steered = bool(changed) or any(stamp.get(name) != value for name, value in steering.items())
    return {
        "search": steering["search"] if changed and state != address else no_update,
        "title": f"{title}: {benchmark.name}" if parts and benchmark is not None else title,
        "remarks": remarks([*said, *views.remarks(state)]),
        "rows": None if parts else views.rows(state),
        "sections": sections(state.view) if stamp.get("view") != state.view else no_update,
        "nothing": f"{benchmark.name} has nothing for this view so far{needed}." if benchmark is not None else "",
        "status": _status(read, found, loading),
        "stamp": {**now, "view": state.view},
        "interval": interval,
        "views": links(state) if steered else no_update,
        "chips": chips(state) if steered else no_update,
        **(_choices(views, state, chosen["key"]) if steered else _SAME_CHOICES),
    }


def _interval(views: Views) -> int:
    """Milliseconds until the next question."""
    read, found = views.follower.progress()
    loading = read < found or not views.follower.looked
    if loading:
        return _LOADING_MS if read else _SOON_MS
    return round(1000 * views.follower.every)


def _steered(state: Address, changed: Mapping[str, Any], chosen: Mapping[str, Any]) -> Address:
    """The state after a choice."""
    if "values" in changed and chosen["key"]:
        state = state.filtered(chosen["key"], changed["values"] or ())
    if "group" in changed:
        state = replace(state, group=tuple(changed["group"] or ()))
    if "benchmark" in changed:
        state = replace(state, benchmark=changed["benchmark"] or "")
    if changed.get("success"):
        state = replace(state, success=changed["success"])
    if changed.get("aggregate"):
        state = replace(state, aggregate=changed["aggregate"])
    return state


def _choices(views: Views, state: Address, key: str | None) -> dict[str, Any]:
    """What the controls say, and what can be chosen."""
    found = views.choices(state)
    keys = list(dict.fromkeys([*found, *state.where, *state.group]))  # an address may name what all runs share
    if key not in keys:
        key = next(iter(state.where), None)
    own = state.where.get(key, ()) if key else ()
    counted = found.get(key, {}) if key else {}
    values = [{"label": f"{value}  ({count})", "value": value} for value, count in counted.items()]
    values += [{"label": value, "value": value} for value in own if value not in counted]
    return {
        "values": {
            "benchmark": state.benchmark or None,
            "key": key,
            "values": list(own),
            "group": list(state.group),
            "success": state.success,
            "aggregate": state.aggregate,
        },
        "options": {"benchmark": views.benchmark_names(state), "key": keys, "values": values, "group": keys},
    }


def _status(read: int, found: int, loading: bool) -> str:
    if loading:
        return f"read {read} of {found} runs" if found else "looking for runs"
    return f"{found} run{'s' * (found != 1)}"
