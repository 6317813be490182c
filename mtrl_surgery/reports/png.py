"""The report's figures as PNG, by matplotlib: for papers and slides, without a browser.

Draws what our figures are made of (lines, filled bands, bars, markers, heat maps on one colour axis, panels by domain)
and nothing else of Plotly's format.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from mtrl_surgery.reports.figures.base import WIDTH, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_DPI = 100
_DASHES = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dot": (0, (1, 1.4)),
    "dashdot": (0, (5, 1.6, 1, 1.6)),
    "longdash": (0, (9, 2)),
}
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P"}
_TEXT: Any = {"font.size": 9, "axes.titlesize": 9, "font.family": "DejaVu Sans", "axes.edgecolor": "#aab3bf"}


def png(figure: Figure, scale: float = 1.5) -> bytes:
    """The figure on white paper, `scale` times as many pixels as on a page 960 wide."""
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    layout = figure["layout"]
    size = (WIDTH / _DPI, layout["height"] / _DPI)
    with rc_context(_TEXT):
        canvas = Canvas(figsize=size, dpi=_DPI * scale, facecolor="white")
        FigureCanvasAgg(canvas)
        _draw(canvas, figure)
        file = io.BytesIO()
        canvas.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _draw(canvas: Canvas, figure: Figure) -> None:
    layout = figure["layout"]
    margin, height = layout["margin"], layout["height"]
    left, right = margin["l"] / WIDTH, 1 - margin["r"] / WIDTH
    bottom, top = margin["b"] / height, 1 - margin["t"] / height

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * (right - left), bottom + y * (top - bottom)

    panels: dict[str, Axes] = {}
    image = None
    for number in (key.removeprefix("xaxis") for key in layout if key.startswith("xaxis")):
        x, y = layout[f"xaxis{number}"]["domain"], layout[f"yaxis{number}"]["domain"]
        (x0, y0), (x1, y1) = place(x[0], y[0]), place(x[1], y[1])
        panels[f"x{number}"] = canvas.add_axes((x0, y0, x1 - x0, y1 - y0))
    for trace in figure["data"]:
        drawn = _DRAW[trace["type"]](panels[trace["xaxis"]], trace, layout)
        image = drawn if trace["type"] == "heatmap" else image
    for name, axes in panels.items():
        _axes(axes, layout, name.removeprefix("x"), any(trace["xaxis"] == name for trace in figure["data"]))
    for note in layout.get("annotations", ()):
        x, y = place(note["x"], note["y"])
        heading, *more = _plain(note["text"]).split("\n")
        canvas.text(x, y + (4 + 11 * len(more)) / height, heading, ha="left", va="bottom", weight="bold", fontsize=9)
        canvas.text(x, y + 4 / height, "\n".join(more), ha="left", va="bottom", fontsize=7.5, color="#5b6576")
    axis = layout.get("coloraxis", {})
    if image is not None and axis.get("showscale", True):
        _colour_bar(canvas, image, axis["colorbar"], place(axis["colorbar"]["x"], 1)[0], top, height)
    if layout.get("showlegend"):
        _legend(canvas, panels, right, top, height)


def _scatter(axes: Axes, trace: dict[str, Any], layout: dict[str, Any]) -> None:
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=trace["line"]["color"], alpha=0.16, linewidth=0)
        return
    look = trace.get("line", {})
    marker = trace.get("marker", {})
    if "error_x" in trace:
        _whiskers(axes, trace)
    lined, marked = "lines" in trace["mode"], "markers" in trace["mode"]
    axes.plot(
        x,
        y,
        color=look.get("color", marker.get("color")) if lined else marker.get("color"),
        linestyle=_DASHES[look.get("dash", "solid")] if lined else "none",
        linewidth=0.75 * look.get("width", 2),
        marker=_MARKERS[marker.get("symbol", "circle")] if marked else "",
        markersize=0.7 * marker.get("size", 6),
        label=trace["name"] if trace.get("showlegend", True) else None,
    )


def _bar(axes: Axes, trace: dict[str, Any], layout: dict[str, Any]) -> None:
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    look = trace["marker"]
    axes.barh(y, x, height=trace["width"], color=look["color"], alpha=look["opacity"], label=trace["name"])
    _whiskers(axes, trace)


def _whiskers(axes: Axes, trace: dict[str, Any]) -> None:
    ends = [_numbers(trace["error_x"][side]) for side in ("arrayminus", "array")]
    widths = np.abs(np.nan_to_num(np.stack(ends)))
    places = _numbers(trace["x"]), _numbers(trace["y"])
    axes.errorbar(*places, xerr=widths, fmt="none", ecolor="#666666", elinewidth=0.9, capsize=1.5)


def _heatmap(axes: Axes, trace: dict[str, Any], layout: dict[str, Any]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    scale = layout["coloraxis"]
    colours = scale["colorscale"]
    chosen: Any = colours.lower() if isinstance(colours, str) else LinearSegmentedColormap.from_list("own", colours)
    z = np.array([_numbers(row) for row in trace["z"]])
    image = axes.pcolormesh(z, cmap=chosen, vmin=scale["cmin"], vmax=scale["cmax"], edgecolors="white", linewidth=0.4)
    for letter, labels in (("x", trace["x"]), ("y", trace["y"])):
        axis = axes.xaxis if letter == "x" else axes.yaxis
        few = layout[f"{letter}axis{trace['xaxis'].removeprefix('x')}"].get("nticks", len(labels))
        shown = range(0, len(labels), max(1, -(-len(labels) // max(1, few))))
        axis.set_ticks([index + 0.5 for index in shown], [str(labels[index]) for index in shown])
    for row, texts in enumerate(trace.get("text", ())):
        for column, text in enumerate(texts):
            dark = np.dot(image.cmap(image.norm(z[row, column]))[:3], (0.3, 0.59, 0.11)) < 0.5
            style: Any = {"ha": "center", "va": "center", "fontsize": 0.6 * trace["textfont"]["size"]}
            style["color"] = "white" if dark else "#1c2330"
            axes.text(column + 0.5, row + 0.5, text, **style)
    return image


_DRAW = {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap}


def _axes(axes: Axes, layout: dict[str, Any], number: str, used: bool) -> None:
    if not used:
        axes.set_axis_off()
        return
    x, y = layout[f"xaxis{number}"], layout[f"yaxis{number}"]
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#444c59", length=3)
    heat = bool(axes.collections) and not axes.lines
    if not heat:
        axes.grid(color="#e8ebf0", linewidth=0.7)
        axes.set_axisbelow(True)
    for letter, options in (("x", x), ("y", y)):
        if options.get("type") == "log":
            axes.set(**{f"{letter}scale": "log"})
            axes.minorticks_off()
        if "range" in options:
            axes.set(**{f"{letter}lim": options["range"]})
        elif options.get("rangemode") == "tozero":
            axes.set(**{f"{letter}lim": (0, None)})
        axes.set(**{f"{letter}label": _plain(options.get("title", {}).get("text", ""))})
    if "tickvals" in y:
        ends = axes.get_ylim()
        axes.set_yticks(y["tickvals"], y["ticktext"])
        axes.set_ylim(ends)  # which ticks beyond them would widen
    if "scaleanchor" in x:
        axes.set_aspect("equal", adjustable="box", anchor="NW")
    if y.get("autorange") == "reversed":
        axes.invert_yaxis()
    if not y.get("showticklabels", True):
        axes.set_yticklabels([])
    if not x.get("showticklabels", True):
        axes.set_xticklabels([])
    if x.get("side") == "top":
        axes.xaxis.tick_top()
    if angle := x.get("tickangle"):
        axes.tick_params(axis="x", rotation=-angle)
        for label in axes.get_xticklabels():
            label.set(ha="left" if x.get("side") == "top" else "right", rotation_mode="anchor")


def _colour_bar(canvas: Canvas, image: Any, options: dict[str, Any], left: float, top: float, height: int) -> None:
    tall = options["len"] / height
    axes = canvas.add_axes((left + 4 / WIDTH, top - tall, 10 / WIDTH, tall))
    bar = canvas.colorbar(image, cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=8, length=2)
    if "tickvals" in options:
        bar.set_ticks(options["tickvals"], labels=options["ticktext"])
    bar.set_label(_plain(options["title"]["text"]), fontsize=8)


def _legend(canvas: Canvas, panels: dict[str, Axes], right: float, top: float, height: int) -> None:
    found: dict[str, Any] = {}
    for axes in panels.values():
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    size = 9.0 if len(found) <= 18 else 7.0
    room = top * height / _DPI * 72 / (1.45 * size)  # lines of text that fit below the first
    columns = max(1, -(-len(found) // max(1, int(room))))
    canvas.legend(
        list(found.values()), list(found), loc="upper left", bbox_to_anchor=(right + 8 / WIDTH, top), frameon=False,
        fontsize=size if columns < 2 else 6.0, ncols=columns, columnspacing=0.6, handlelength=2.2, borderpad=0,
    )  # fmt: skip


def _numbers(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _plain(text: str) -> str:
    """Without the few tags that our titles have."""
    return re.sub(r"<[^<>]*>", "", text.replace("<br>", "\n"))
