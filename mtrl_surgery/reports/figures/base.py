"""What figures are made of: panels side by side, lines with bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mtrl_surgery.reports.benchmarks import Group
from mtrl_surgery.reports.palette import Style, faint
from mtrl_surgery.reports.records import ReportError
from mtrl_surgery.shell import install

Figure = dict[str, Any]
Trace = dict[str, Any]

MARGIN = {"l": 64, "r": 24, "t": 40, "b": 52}
WIDTH = 960
"""Pixels that panels are laid out for; the page stretches them."""
_ENTRY = 20
"""Pixels of a line in the legend; one that is higher than its panels would hide its end."""


@dataclass(frozen=True)
class Part:
    """One part of a report: figures of the same thing, and the numbers behind them.

    Attributes:
        name: Of its files.
        title: Over it.
        caption: What is seen and how to read it, in a sentence or two.
        figures: What makes each, by what a button calls it; a single one needs no name.
        numbers: What makes the frame for the CSV file.
    """

    name: str
    title: str
    caption: str
    figures: Mapping[str, Callable[[], Figure]] = field(repr=False)
    numbers: Callable[[], pd.DataFrame] = field(repr=False)


class Panels:
    """A figure of panels in rows and columns, each with a title of its own, and axes that are numbered as Plotly does.

    Args:
        titles: One a panel, in reading order; None leaves the place empty.
        columns: Side by side.
        height: Of one panel, in pixels.
        gap: Between columns, as a share of the width, for what stands left of an axis.
        below: Pixels between rows, for axis labels and titles.
        left: Pixels left of the first column.
        right: Pixels right of the last one, for a colour bar or a legend.
        top: Pixels above the first row.
        bottom: Pixels below the last one.
        legend: Groups that are named right of the panels, which get the room and the height that this takes.
    """

    def __init__(
        self,
        titles: Sequence[str | None],
        columns: int = 1,
        height: int = 320,
        gap: float = 0.07,
        below: int = 74,
        left: int = MARGIN["l"],
        right: int = MARGIN["r"],
        top: int = MARGIN["t"],
        bottom: int = MARGIN["b"],
        legend: Sequence[Group] = (),
    ) -> None:
        try:
            from plotly.subplots import make_subplots
        except ImportError as error:
            raise ReportError(f"figures need plotly, which is not installed: {install('report')}") from error
        rows = max(1, -(-len(titles) // columns))
        if legend:
            right = min(340, 76 + 7 * max(len(group.label) for group in legend))
            height = max(height, -(-(_ENTRY * len(legend) - (rows - 1) * below) // rows))
        inner = rows * height + (rows - 1) * below
        there: list[dict[str, Any] | None] = [{}] * len(titles) + [None] * (rows * columns - len(titles))
        layout = make_subplots(
            rows,
            columns,
            specs=[there[row * columns : (row + 1) * columns] for row in range(rows)],
            subplot_titles=[_bold(title) if title else "" for title in titles],
            horizontal_spacing=gap if columns > 1 else 0,
            vertical_spacing=below / inner if rows > 1 else 0,
        ).to_dict()["layout"]
        half = (1 - gap * (columns - 1)) / columns / 2
        left_aligned = {"xanchor": "left", "align": "left", "yshift": 4, "font": {}}
        self.data: list[Trace] = []
        self.layout: dict[str, Any] = {
            **{name: axis for name, axis in layout.items() if "axis" in name},
            "height": inner + top + bottom,
            "margin": {"l": left, "r": right, "t": top, "b": bottom},
            "annotations": [{**own, **left_aligned, "x": own["x"] - half} for own in layout.get("annotations", ())],
            "showlegend": bool(legend),
        }
        if legend:
            size = 11 if len(legend) > 12 else 12
            self.layout["legend"] = {
                "x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "font": {"size": size}, "tracegroupgap": 0
            }  # fmt: skip

    def add(self, place: int, *traces: Trace) -> None:
        """Puts traces into the panel of that number, from 0."""
        number = "" if place == 0 else str(place + 1)
        self.data += [{**trace, "xaxis": f"x{number}", "yaxis": f"y{number}"} for trace in traces]

    def axis(self, place: int, letter: str, **options: Any) -> None:
        """Sets options of a panel's x or y axis; `title` may be a string."""
        if isinstance(options.get("title"), str):
            options["title"] = {"text": options["title"]}
        self.layout[f"{letter}axis{'' if place == 0 else place + 1}"] |= options

    def square(self, place: int) -> None:
        """Has a panel's cells as wide as they are high; what is left stays empty, to the right or below."""
        number = "" if place == 0 else str(place + 1)
        self.axis(place, "x", constrain="domain", constraintoward="left", scaleanchor=f"y{number}")
        self.axis(place, "y", constrain="domain", constraintoward="top")

    def figure(self, **layout: Any) -> Figure:
        """The figure, with more layout."""
        return {"data": self.data, "layout": {**self.layout, **layout}}


def _bold(title: str) -> str:
    """The first line bold; what follows a break is a smaller one."""
    first, *more = title.split("<br>")
    return "<br>".join([f"<b>{first}</b>", *more])


def line(x: ArrayLike, y: ArrayLike, style: Style, name: str, **options: Any) -> Trace:
    """A line; few points have markers too, since a single one would not be seen."""
    marked = len(np.atleast_1d(np.asarray(x))) <= 12
    return {
        "type": "scatter",
        "mode": "lines+markers" if marked else "lines",
        "x": plain(x),
        "y": plain(y),
        "name": name,
        "legendgroup": name,
        "line": {"color": style.colour, "dash": style.dash, "width": 2},
        "marker": {"color": style.colour, "symbol": style.marker, "size": 6},
        **options,
    }


def band(x: ArrayLike, low: ArrayLike, high: ArrayLike, style: Style, name: str) -> Trace:
    """The area between two lines, where there are both."""
    x, low, high = (np.asarray(values, np.float64) for values in (x, low, high))
    there = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[there], low[there], high[there]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": plain(np.concatenate([x, x[::-1]])),
        "y": plain(np.concatenate([high, low[::-1]])),
        "fill": "toself",
        "fillcolor": faint(style.colour),
        "line": {"width": 0, "color": style.colour},
        "name": name,
        "legendgroup": name,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def plain(values: ArrayLike) -> list[float | int | None]:
    """Plain numbers for JSON, with six significant digits; None for NaN and infinities."""
    flat = np.asarray(values)
    if flat.dtype.kind in "iu":
        return [int(value) for value in flat]
    flat = flat.astype(np.float64)
    there = np.isfinite(flat)
    sizes = np.where(there & (flat != 0), np.abs(flat), 1.0)
    places = np.clip(5 - np.floor(np.log10(sizes)), -300, 300)
    # A quotient of whole numbers is the double next to the decimal, which JSON writes with no more digits than it has.
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    near = (np.rint(np.where(there, flat, 0.0) * up / down) / up * down).tolist()
    return (
        near if there.all() else [value if known else None for value, known in zip(near, there.tolist(), strict=True)]
    )


def long(frames: Mapping[Any, pd.DataFrame], names: Sequence[str], columns: str, value: str) -> pd.DataFrame:
    """Frames as one, a row a number, with their keys, index and columns as columns of these names."""
    stacked: Any = pd.concat(frames, names=list(names)).rename_axis(columns=columns).stack(future_stack=True)
    made: pd.DataFrame = stacked.rename(value).reset_index()
    return made


def step_title(kind: str) -> str:
    """What the time axis counts."""
    return "updates" if kind == "supervised" else "vector steps (steps of each copy of each task)"


def thin_steps(count: int, most: int) -> np.ndarray:
    """Places of at most about `most` of `count` points, evenly spread, the last among them."""
    stride = max(1, -(-count // most))
    return np.arange(count - 1, -1, -stride)[::-1] if count else np.arange(0)


def rows_for(panel_tasks: int, least: int = 110, each: int = 18) -> int:
    """Pixels of a panel with that many labelled rows."""
    return max(least, each * panel_tasks)
