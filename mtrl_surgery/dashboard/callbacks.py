"""What happens when the address or a choice changes, and every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update, set_props

from mtrl_surgery.dashboard.components import chips, frame, links, remarks, renewed, replaced, section
from mtrl_surgery.dashboard.state import State as Address
from mtrl_surgery.dashboard.views import VIEWS, Desk, Section, Shown, files_of
from mtrl_surgery.reports.figures.base import Part

_SOON_MS = 300
"""Until the next question while runs are being read or figures made."""
_WAIT_S = 0.4
"""How long an answer waits for figures."""
_MINUTE_S = 60
"""A run falls silent without a new row: the table of runs is looked at again so often."""

_CONTROLS = ("benchmark", "key", "values", "group", "success", "aggregate")
_LISTS = ("benchmark", "key", "values", "group")
"""The controls whose choices depend on the runs."""
_SAME_CHOICES = {"values": dict.fromkeys(_CONTROLS, no_update), "options": dict.fromkeys(_LISTS, no_update)}
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("search", "title", "remarks", "rows", "sections", "status", "views", "chips"), no_update),
    **_SAME_CHOICES,
}


def register(app: Dash, desk: Desk) -> None:
    """Wires the page to the desk.

    It is one callback, so that a page is complete after one question to the server. Its choices are inputs and outputs
    alike: a choice changes the address, and an address (a link, the back button) changes the choices. The page asks
    again some time after each answer (`pace` in the script), never while one is under way, which Dash would drop.
    """

    @app.callback(
        {
            "search": Output("url", "search"),
            "title": Output("title", "children"),
            "remarks": Output("remarks", "children"),
            "rows": Output("rows", "data"),
            "sections": Output("sections", "children"),
            "status": Output("status", "children"),
            "stamp": Output("stamp", "data"),
            "views": Output("views", "children"),
            "chips": Output("chips", "children"),
            "values": {name: Output(name, "value") for name in _CONTROLS},
            "options": {name: Output(name, "options") for name in _LISTS},
        },
        {
            "search": Input("url", "search"),
            "ticks": (Input("tick", "data"), Input("again", "n_intervals")),
            "chosen": {name: Input(name, "value") for name in _CONTROLS},
            "stamp": State("stamp", "data"),
        },
    )
    def page(search: str | None, ticks: Any, chosen: dict[str, Any], stamp: dict[str, Any] | None) -> Any:
        """Everything that differs from what the page has."""
        by = {name.partition(".")[0] for name in ctx.triggered_prop_ids}
        with desk.follower.asked():
            return _page(desk, search, {name: chosen[name] for name in _CONTROLS if name in by}, chosen, stamp or {})

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("mtrl", "pace"), Output("paced", "data"), Input("stamp", "data")
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("mtrl", "runs"), Output("drawn", "data"), Input("rows", "data"), Input("url", "search")
    )


def _page(
    desk: Desk, search: str | None, changed: Mapping[str, Any], chosen: Mapping[str, Any], stamp: Mapping[str, Any]
) -> dict[str, Any]:
    follower = desk.follower
    address, said = Address.parse(search, VIEWS)
    state = _steered(address, changed, chosen)
    follower.want(files_of(state.view))
    read, found = follower.progress()
    loading = read < found or not follower.looked
    minute = int(time.time() // _MINUTE_S) if state.view == "overview" else 0
    steering = {"search": state.search(), "shape": follower.shape, "key": chosen["key"]}
    now = {**steering, "asked": search, "version": follower.version, "read": [read, found, loading], "minute": minute}
    later = {"asked_at": time.time(), "wait_ms": round(1000 * follower.every)}
    if not changed and not stamp.get("pending") and all(stamp.get(name) == value for name, value in now.items()):
        return {**_NOTHING, "stamp": {**stamp, **later}}
    shown = desk.show(state, _WAIT_S)
    moved = stamp.get("search") != steering["search"]
    if moved:
        shown = _beginning(shown)
    prints = [[own.name, own.print, frame(own)] for own in shown.sections]
    before = [] if moved else stamp.get("prints", [])
    sections, late = _sections(shown.sections, state, before, prints, stamp.get("late", []))
    pending = bool(late) or any(own.pending for own in shown.sections)
    later["wait_ms"] = _SOON_MS if loading or pending else later["wait_ms"]
    steered = bool(changed) or any(stamp.get(name) != value for name, value in steering.items())
    return {
        "search": steering["search"] if changed and state != address else no_update,
        "title": shown.title,
        "remarks": remarks([*said, *shown.said]),
        "rows": shown.rows,
        "sections": sections,
        "status": _status(read, found, loading),
        "stamp": {**now, **later, "prints": prints, "late": late, "pending": pending},
        "views": links(state) if steered else no_update,
        "chips": chips(state) if steered else no_update,
        **(_choices(desk, state, chosen["key"]) if steered else _SAME_CHOICES),
    }


def _beginning(shown: Shown) -> Shown:
    """The first figure of a view alone: a browser takes long to draw several, and shows none before the last."""
    first = next((own.name for own in shown.sections if own.content), None)
    sections = [
        own if own.name == first or own.content is None else replace(own, content=None, print="", pending=True)
        for own in shown.sections
    ]
    return replace(shown, sections=sections)


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


def _choices(desk: Desk, state: Address, key: str | None) -> dict[str, Any]:
    """What the controls say, and what can be chosen."""
    found = desk.choices(state)
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
        "options": {"benchmark": desk.benchmark_names(state), "key": keys, "values": values, "group": keys},
    }


def _sections(
    sections: list[Section], state: Address, before: list[list[str]], prints: list[list[str]], late: list[str]
) -> tuple[Any, list[str]]:
    """What the page is to show of them, and the names of those that have to wait for the next answer.

    All of them; or none where they are the same ones: those that look different now are sent on their own, and of
    figures one at a time, since a browser shows none before it has drawn all that came together. Who has waited
    longest is first. The prints of those that wait become those of what the page shows still.
    """
    if not sections or [name for name, *_ in before] != [name for name, *_ in prints]:
        return [section(own, state) for own in sections], []
    changed = [place for place, (old, new) in enumerate(zip(before, prints, strict=True)) if old != new]
    figures = [place for place in changed if isinstance(sections[place].content, Part)]
    waited = {name: place for place, name in enumerate(late)}
    figures.sort(key=lambda place: waited.get(sections[place].name, len(late)))
    for place in changed:
        own, old, new = sections[place], before[place], prints[place]
        if place in figures[1:]:
            prints[place] = old
            continue
        only_numbers = old[2] == new[2] and own.content is not None
        set_props(*(renewed(own) if only_numbers else replaced(own, state)))
    return no_update, [sections[place].name for place in figures[1:]]


def _status(read: int, found: int, loading: bool) -> str:
    if loading:
        return f"read {read} of {found} runs" if found else "looking for runs"
    return f"{found} run{'s' * (found != 1)}"
