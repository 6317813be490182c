"""Each task's final score, method by method, with what the episodes' luck leaves open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, plain
from mtrl_surgery.reports.statistics import Floats, summarise, wilson

_DOTS = 1200
"""Seeds' dots that can be told apart, and drawn in no time."""


def task_bars(benchmark: Benchmark, confidence: float = 0.95) -> Part:
    """The last evaluation: all seeds' episodes pooled with Wilson intervals, or means over seeds; and a dot a seed."""
    groups, tasks = benchmark.groups, benchmark.tasks
    bars = benchmark.kind == "rl"  # a bar starts at 0, which accuracies of 0.95 and 0.96 have no use for
    dotted = sum(len(group.seeds_R) for group in groups) * len(tasks) <= _DOTS
    whiskers = (
        f"Whiskers are {confidence:.0%} Wilson intervals of the pooled episodes: they tell how sure the rate of these "
        "policies is, not how other seeds would do."
        if bars
        else "Whiskers reach from the worst to the best seed."
    ) + (" Each dot is a seed." if dotted else "")
    caption = f"The last evaluation of every seed, method by method: {benchmark.score}. {whiskers}"

    def numbers() -> pd.DataFrame:
        every = {group.label: pooled(group, confidence).set_axis(list(tasks)) for group in groups}
        return pd.concat(every, names=["method", "task"]).rename(columns={"rate": "score"}).reset_index()

    def figure() -> Figure:
        each = 14 if len(groups) > 2 else 20
        height = max(160, len(tasks) * (len(groups) * each + 12))
        panels = Panels([None], height=height, left=16 + 7 * max(map(len, tasks)), top=34, legend=groups)
        thick = 0.86 / len(groups)
        for place, group in enumerate(groups):
            found = pooled(group, confidence)
            at_K = np.arange(len(tasks), dtype=np.float64) + (place - (len(groups) - 1) / 2) * thick
            shown = {
                "x": plain(found["rate"]),
                "y": plain(at_K),
                "name": group.label,
                "legendgroup": group.label,
                "error_x": _whiskers(found),
                "customdata": [_said(row, task) for row, task in zip(found.itertuples(), tasks, strict=True)],
                "hovertemplate": "%{customdata}<extra>" + group.label + "</extra>",
            }
            if bars:
                colour = {"color": group.style.colour, "opacity": 0.75}
                panels.add(0, {"type": "bar", "orientation": "h", "width": thick * 0.9, "marker": colour, **shown})
            else:
                dot = {"color": group.style.colour, "symbol": group.style.marker, "size": 8}
                panels.add(0, {"type": "scatter", "mode": "markers", "marker": dot, **shown})
            if dotted:
                panels.add(0, _dots(summarise(group.scores_TRK, "final"), at_K, group))
        places = list(range(len(tasks)))
        ends = [len(tasks) - 0.4, -0.6]
        panels.axis(0, "x", title=benchmark.score, **({"range": [0, 1.02]} if bars else {}))
        panels.axis(0, "y", tickvals=places, ticktext=list(tasks), range=ends, showgrid=False, zeroline=False)
        return panels.figure(bargap=0)

    return Part("task_bars", "Task by task", caption, {"": figure}, numbers)


def pooled(group: Group, confidence: float = 0.95) -> pd.DataFrame:
    """A group's last evaluations, a row a task: `rate`, `low`, `high`, and of episodes `successes` and `episodes`.

    Where there are no counts, `rate` is the mean over seeds, and the ends are the worst and the best seed.
    """
    if group.successes_TRK is None or group.episodes_TRK is None:
        final = pd.DataFrame(summarise(group.scores_TRK, "final")).dropna()
        ends = {"rate": final.mean(), "low": final.min(), "high": final.max()}
        return pd.DataFrame({**ends, "successes": np.nan, "episodes": np.nan})
    last = [_last_place(own_TK) for own_TK in np.moveaxis(group.scores_TRK, 1, 0)]
    runs = [(time, run) for run, time in enumerate(last) if time is not None]
    at = tuple(np.array(runs, np.intp).reshape(-1, 2).T)
    successes_K, episodes_K = group.successes_TRK[at].sum(0), group.episodes_TRK[at].sum(0)
    low_K, high_K = wilson(successes_K, episodes_K, confidence)
    with np.errstate(invalid="ignore"):
        rate_K = successes_K / episodes_K
    return pd.DataFrame(
        {"rate": rate_K, "low": low_K, "high": high_K, "successes": successes_K, "episodes": episodes_K}
    )


def _last_place(scores_TK: Floats) -> int | None:
    there = np.flatnonzero(np.isfinite(scores_TK).all(1))
    return int(there[-1]) if len(there) else None


def _whiskers(found: pd.DataFrame) -> dict[str, Any]:
    upwards, downwards = plain(found["high"] - found["rate"]), plain(found["rate"] - found["low"])
    look = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 2, "color": "#888888"}
    return {**look, "array": upwards, "arrayminus": downwards}


def _said(row: Any, task: str) -> str:
    if not np.isfinite(row.rate):
        return f"{task}: not evaluated"
    text = f"{task}: {row.rate:.3f} [{row.low:.3f}, {row.high:.3f}]"
    return text + (f", {row.successes:.0f} of {row.episodes:.0f}" if row.episodes > 0 else "")


def _dots(scores_RK: Floats, at_K: Floats, group: Group) -> dict[str, Any]:
    """All seeds' scores as one trace: hundreds of them would be slow to draw."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": plain(scores_RK.ravel()),
        "y": plain(np.tile(at_K, len(scores_RK))),
        "marker": {"color": group.style.colour, "size": 5, "line": {"color": "#ffffff", "width": 1}},
        "name": group.label,
        "legendgroup": group.label,
        "showlegend": False,
        "customdata": [seed for seed in group.seeds_R for _ in at_K],
        "hovertemplate": f"seed %{{customdata}}: %{{x:.3f}}<extra>{group.label}</extra>",
    }
