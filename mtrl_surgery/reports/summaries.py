"""One number a task from a run's curve. The literature reports three and often does not say which; ours have names.

- `final`: the last evaluation.
- `last`: the mean of the last k evaluations, which forgives a bad last moment.
- `max`: the evaluation whose mean over tasks is the greatest. It is chosen by the very scores it reports, so it is
  biased upwards, the more so the fewer the episodes and the more the evaluations.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mtrl_surgery.reports.intervals import Floats

Summary = Literal["final", "last", "max"]
SUMMARIES: tuple[Summary, ...] = get_args(Summary)


def summarise(scores_TRK: Floats, how: Summary, last: int = 5) -> Floats:
    """Every run's score of every task, [run, task].

    Args:
        scores_TRK: Scores by evaluation in order of time, run and task; higher is better. NaN where a run was not
            evaluated; an evaluation counts for a run where it has all tasks.
        how: Which evaluations count.
        last: The k of `last`; of a run with fewer evaluations all count.

    Returns:
        NaN for a run without a whole evaluation.

    Raises:
        ValueError: An unknown summary, or `last` below 1.
    """
    if how not in SUMMARIES:
        raise ValueError(f"summary={how}: choices: {', '.join(SUMMARIES)}")
    if last < 1:
        raise ValueError(f"last={last} must be at least 1")
    _, runs, tasks = scores_TRK.shape
    result_RK = np.full((runs, tasks), np.nan)
    for run in range(runs):
        own_TK = scores_TRK[:, run]
        whole_TK = own_TK[np.isfinite(own_TK).all(1)]
        if not len(whole_TK):
            continue
        if how == "final":
            result_RK[run] = whole_TK[-1]
        elif how == "last":
            result_RK[run] = whole_TK[-last:].mean(0)
        else:
            result_RK[run] = whole_TK[whole_TK.mean(1).argmax()]
    return result_RK


def title(how: Summary, last: int = 5) -> str:
    """What a table calls it."""
    return {"final": "final", "last": f"mean of the last {last}", "max": "max over training"}[how]
