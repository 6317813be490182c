"""Each task's final score, method by method, with what the episodes' luck leaves open."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import Panels, Part, look_of, numbers
from mtrl_surgery.reports.intervals import Floats, wilson
from mtrl_surgery.reports.summaries import summarise

_DOTS = 1200
"""Seeds' dots that can be told apart, and drawn in no time."""


def task_bars(benchmark: Benchmark, confidence: float = 0.95) -> Part:
    """The last evaluation: all seeds' episodes pooled with Wilson intervals, or means over seeds; and a dot a seed."""
    groups, tasks = benchmark.groups, benchmark.tasks
    each = 14 if len(groups) > 2 else 20
    height = max(160, len(tasks) * (len(groups) * each + 12))
    panels = Panels([None], height=height, left=16 + 7 * max(map(len, tasks)), top=34, legend=groups)
    thick = 0.86 / len(groups)
    rows: list[tuple[Any, ...]] = []
    bars = benchmark.kind == "rl"  # a bar starts at 0, which accuracies of 0.95 and 0.96 have no use for
    dotted = sum(len(group.seeds_R) for group in groups) * len(tasks) <= _DOTS
    for place, group in enumerate(groups):
        found = pooled(group, confidence)
        at_K = np.arange(len(tasks), dtype=np.float64) + (place - (len(groups) - 1) / 2) * thick
        look = look_of(group)
        shown = {
            "x": numbers(found["rate"]),
            "y": numbers(at_K),
            "name": group.label,
            "legendgroup": group.label,
            "error_x": _whiskers(found),
            "customdata": [_said(found, k, task) for k, task in enumerate(tasks)],
            "hovertemplate": "%{customdata}<extra>" + group.label + "</extra>",
        }
        if bars:
            colour = {"color": look.colour, "opacity": 0.75}
            panels.add(0, {"type": "bar", "orientation": "h", "width": thick * 0.9, "marker": colour, **shown})
        else:
            dot = {"color": look.colour, "symbol": look.marker, "size": 8}
            panels.add(0, {"type": "scatter", "mode": "markers", "marker": dot, **shown})
        if dotted:
            panels.add(0, _dots(summarise(group.scores_TRK, "final"), at_K, group))
        columns = (found["rate"], found["low"], found["high"], found["successes"], found["episodes"])
        rows += [(group.label, task, *values) for task, *values in zip(tasks, *columns, strict=True)]
    panels.axis(0, "x", title=benchmark.score, **({"range": [0, 1.02]} if bars else {}))
    places = list(range(len(tasks)))
    panels.axis(
        0, "y", tickvals=places, ticktext=list(tasks), range=[len(tasks) - 0.4, -0.6], showgrid=False, zeroline=False
    )
    whiskers = (
        f"Whiskers are {confidence:.0%} Wilson intervals of the pooled episodes: they tell how sure the rate of these "
        "policies is, not how other seeds would do."
        if bars
        else "Whiskers reach from the worst to the best seed."
    ) + (" Each dot is a seed." if dotted else "")
    figure = panels.figure(bargap=0)
    named = ("method", "task", "score", "low", "high", "successes", "episodes")
    caption = f"The last evaluation of every seed, method by method: {benchmark.score}. {whiskers}"
    return Part("task_bars", "Task by task", caption, {"": figure}, named, rows)


def pooled(group: Group, confidence: float = 0.95) -> dict[str, Floats]:
    """A group's last evaluations: `rate`, `low`, `high`, and of episodes `successes` and `episodes`, [task] each.

    Where there are no counts, `rate` is the mean over seeds, and the ends are the worst and the best seed.
    """
    tasks = group.scores_TRK.shape[2]
    if group.successes_TRK is None or group.episodes_TRK is None:
        scores_RK = summarise(group.scores_TRK, "final")
        scores_RK = scores_RK[np.isfinite(scores_RK).all(1)]
        nothing_K = np.full(tasks, np.nan)
        if not len(scores_RK):
            return dict.fromkeys(("rate", "low", "high", "successes", "episodes"), nothing_K)
        ends = {"rate": scores_RK.mean(0), "low": scores_RK.min(0), "high": scores_RK.max(0)}
        return {**ends, "successes": nothing_K, "episodes": nothing_K}
    last = [_last_place(own_TK) for own_TK in np.moveaxis(group.scores_TRK, 1, 0)]
    runs = [(run, time) for run, time in enumerate(last) if time is not None]
    successes_K, episodes_K = (
        np.sum([counts[time, run] for run, time in runs], 0) if runs else np.zeros(tasks)
        for counts in (group.successes_TRK, group.episodes_TRK)
    )
    low_K, high_K = wilson(successes_K, episodes_K, confidence)
    with np.errstate(invalid="ignore"):
        rate_K = successes_K / episodes_K
    return {"rate": rate_K, "low": low_K, "high": high_K, "successes": successes_K, "episodes": episodes_K}


def _last_place(scores_TK: Floats) -> int | None:
    there = np.flatnonzero(np.isfinite(scores_TK).all(1))
    return int(there[-1]) if len(there) else None


def _whiskers(found: dict[str, Floats]) -> dict[str, Any]:
    upwards, downwards = numbers(found["high"] - found["rate"]), numbers(found["rate"] - found["low"])
    look = {"type": "data", "symmetric": False, "thickness": 1.2, "width": 2, "color": "#888888"}
    return {**look, "array": upwards, "arrayminus": downwards}


def _said(found: dict[str, Floats], k: int, task: str) -> str:
    if not np.isfinite(found["rate"][k]):
        return f"{task}: not evaluated"
    text = f"{task}: {found['rate'][k]:.3f} [{found['low'][k]:.3f}, {found['high'][k]:.3f}]"
    return text + (f", {found['successes'][k]:.0f} of {found['episodes'][k]:.0f}" if found["episodes"][k] > 0 else "")


def _dots(scores_RK: Floats, at_K: Floats, group: Group) -> dict[str, Any]:
    """All seeds' scores as one trace: hundreds of them would be slow to draw."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(scores_RK.ravel()),
        "y": numbers(np.tile(at_K, len(scores_RK))),
        "marker": {"color": look_of(group).colour, "size": 5, "line": {"color": "#ffffff", "width": 1}},
        "name": group.label,
        "legendgroup": group.label,
        "showlegend": False,
        "customdata": [seed for seed in group.seeds_R for _ in at_K],
        "hovertemplate": f"seed %{{customdata}}: %{{x:.3f}}<extra>{group.label}</extra>",
    }
