"""What heat maps are made of: cells, their colours, and the numbers in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mtrl_surgery.reports.figures.base import Panels, Trace, plain, rows_for
from mtrl_surgery.reports.statistics import Floats

SEQUENTIAL = "Cividis"
DIVERGING = [[0.0, "#b2182b"], [0.25, "#ef8a62"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1.0, "#2166ac"]]
"""Red is bad, blue is good, white is neither; told apart with every common colour-vision deficiency."""


def heat(x: Sequence[Any], y: Sequence[str], z: ArrayLike, **options: Any) -> Trace:
    """A heat map on the figure's common colour axis; NaN is left blank."""
    rows = np.asarray(z, np.float64)
    return {
        "type": "heatmap",
        "x": list(x),
        "y": list(y),
        "z": [plain(row) for row in rows],
        "coloraxis": "coloraxis",
        "xgap": 1 if rows.shape[1] <= 60 else 0,
        "ygap": 1,
        "hoverongaps": False,
        **options,
    }


def heats_over_time(
    found: Mapping[str, pd.DataFrame],
    rows: Sequence[str],
    columns: int = 3,
    right: int = 100,
    form: Callable[[Floats], Floats] | None = None,
) -> Panels:
    """A panel a method: time runs to the right, and a row is one of `rows`.

    Args:
        found: By method: its values, an index of steps and a column for each of `rows`.
        rows: Their labels.
        columns: Panels side by side, at most.
        right: Pixels right of the panels.
        form: What is coloured in the place of the values, which hovering tells.
    """
    columns = max(1, min(columns, len(found)))
    left = 16 + 7 * max(map(len, rows))
    panels = Panels(list(found), columns, rows_for(len(rows)), gap=0.03, below=58, left=left, right=right)
    for place, (label, values) in enumerate(found.items()):
        raw_TK = values.to_numpy()
        told: dict[str, Any] = {"hovertemplate": f"%{{y}}, step %{{x}}: %{{z:.3f}}<extra>{label}</extra>"}
        if form is not None:
            told["customdata"] = [[f"{value:.3g}" for value in row] for row in raw_TK.T]
            told["hovertemplate"] = f"%{{y}}, step %{{x}}: %{{customdata}}<extra>{label}</extra>"
        shown_TK = raw_TK if form is None else form(raw_TK)
        panels.add(place, heat(list(map(_step_label, values.index)), rows, shown_TK.T, **told))
        panels.axis(place, "y", autorange="reversed", showgrid=False, showticklabels=place % columns == 0, ticks="")
        panels.axis(place, "x", type="category", nticks=5, showgrid=False, tickangle=0)
    return panels


def colours(low: float, high: float, title: str, panels: Panels, diverging: bool = False) -> dict[str, Any]:
    """A colour axis with its bar, at the top right of the panels and no longer than needed."""
    room = panels.layout["height"] - panels.layout["margin"]["t"] - panels.layout["margin"]["b"]
    return {
        "colorscale": DIVERGING if diverging else SEQUENTIAL,
        "cmin": low,
        "cmax": high,
        "colorbar": {
            "title": {"text": title, "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            "lenmode": "pixels",
            "len": min(240, room),
            "x": 1.01,
            "xpad": 4,
            "ypad": 0,
            "y": 1,
            "yanchor": "top",
            "nticks": 5,
        },
    }


def _step_label(step: int) -> str:
    """2.5k, 1M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if step >= size:
            return f"{step / size:.4g}{unit}"
    return str(step)


def extent(values: ArrayLike) -> float:
    """Where the colours of differences end: four fifths of them lie within, so that a few outliers do not take all."""
    flat = np.abs(np.asarray(values, np.float64)).ravel()
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return 1.0
    return float(np.quantile(flat, 0.8)) or float(flat.max()) or 1.0


def slanted_room(labels: Sequence[str]) -> int:
    """Pixels below an axis for labels at 45 degrees."""
    return 28 + 5 * max(map(len, labels), default=0)


def written(values: ArrayLike, signed: bool = False, size: int = 12) -> dict[str, Any]:
    """What has `heat` write the numbers into its cells, with two digits of a number of the usual size."""
    cells = np.asarray(values, np.float64)
    digits = digits_of(cells)

    def text(value: float) -> str:
        near = round(float(value), digits)
        return "" if not np.isfinite(value) else f"{near:{'+' if signed else ''}.{digits}f}" if near else "0"

    return {
        "text": [[text(value) for value in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": size},
    }


def digits_of(values: ArrayLike) -> int:
    """Digits after the point, one to four, that show two of the median number."""
    sizes = np.abs(np.asarray(values, np.float64)).ravel()
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return int(np.clip(1 - np.floor(np.log10(np.median(sizes))), 1, 4)) if len(sizes) else 1
