"""Hundreds of run folders with thousands of rows each, as training leaves them, for the dashboard's timings.

python -m tests.dashboard.many /tmp/many 300                  # make them
python -m tests.dashboard.measure /tmp/many                   # how long a page takes with them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mtrl_surgery.runs.folder import RunFolder

TASKS = tuple(f"{name}-v3" for name in (
    "reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close", "button-press-topdown",
    "peg-insert-side", "window-open", "window-close",
))  # fmt: skip
METHODS = ("ls", "samgs", "pcgrad", "cagrad", "nashmtl", "famo")
TAUS = (0.001, 0.002, 0.005, 0.01, 0.02)


def make(out: Path, runs: int, logs: int = 800, evaluations: int = 60, running: int = 3) -> list[Path]:
    """Runs of six methods, five values of a key and as many seeds as it takes; the last few are still running.

    Args:
        out: The folder of run folders.
        runs: How many.
        logs: Logged steps of each, of 11 rows in metrics.jsonl and one in health.jsonl.
        evaluations: Of each, of 10 rows.
        running: How many have not finished.
    """
    rng = np.random.default_rng(0)
    metrics = [_metrics(rng, logs) for _ in range(4)]  # the same text for many runs: it is read, not looked at
    made = []
    for number, (seed, tau, method) in enumerate(product(range(runs), TAUS, METHODS)):
        if number == runs:
            break
        config = {
            "env": {"kind": "metaworld", "name": "mt10", "tasks": list(TASKS), "horizon": 500, "copies": 2},
            "method": {"name": method},
            "agent": {"tau": tau, **{f"option_{place}": place for place in range(30)}},
            "total_steps": 1000 * logs,
            "seed": seed,
            "out": str(out),
        }
        with RunFolder.create(out, f"mt10_{method}_{tau:g}_s{seed}", config) as run:
            (run.path / "metrics.jsonl").write_text(metrics[number % len(metrics)])
            (run.path / "evaluations.jsonl").write_text("".join(_evaluations(rng, logs, evaluations)))
            (run.path / "health.jsonl").write_text("".join(_health(rng, logs)))
            (run.path / "conflicts.jsonl").write_text("".join(_conflicts(rng, logs)))
            if number < runs - running:
                run.finish("finished")
            made.append(run.path)
    return made


def evaluation_rows(rng: np.random.Generator, step: int, share: float) -> list[str]:
    """One evaluation, a row a task."""
    rows = []
    for task in TASKS:
        hits = int(rng.binomial(50, share))
        counts = {"episodes": 50, "successes_any": hits, "successes_last": hits // 2}
        returns = {"mean_return": 1.5, "returns": [1234.5678] * 50, "lengths": [500] * 50, "goals": list(range(50))}
        rows.append(_line({"step": step, "task": task, "updates": step, **counts, **returns}))
    return rows


def metric_rows(rng: np.random.Generator, step: int) -> list[str]:
    """One logged step: the whole run, and each task."""
    keys = ("conflict_rate", "mean_cosine", "magnitude_similarity", "triad_rate", "loss", "direction_norm")
    own = ("weights", "gradient_norm", "alignment", "loss", "q")
    values = {f"{network}/{key}": float(rng.random()) for network in ("critic", "actor") for key in keys}
    rows = [_line({"step": step, "task": None, "updates": step, **values})]
    for task in TASKS:
        values = {f"{network}/{key}": float(rng.random()) for network in ("critic", "actor") for key in own}
        rows.append(_line({"step": step, "task": task, "updates": step, "temperature": float(rng.random()), **values}))
    return rows


def _metrics(rng: np.random.Generator, logs: int) -> str:
    return "".join(row for log in range(1, logs + 1) for row in metric_rows(rng, 1000 * log))


def _evaluations(rng: np.random.Generator, logs: int, evaluations: int) -> Iterator[str]:
    for place in range(1, evaluations + 1):
        yield from evaluation_rows(rng, 1000 * logs * place // evaluations, place / evaluations)


def _health(rng: np.random.Generator, logs: int) -> Iterator[str]:
    for log in range(1, logs + 1):
        rates = {"steps_per_s": 90 + 20 * float(rng.random()), "updates_per_s": 90.0, "lag_updates": 100.0}
        times = {"time": 1.7e9 + 10 * log, "wall_s": 10.0 * log}
        yield _line({"step": 1000 * log, **times, **rates, "workers": 2, "restarts": 0})


def _conflicts(rng: np.random.Generator, logs: int) -> Iterator[str]:
    pairs = len(TASKS) * (len(TASKS) - 1) // 2
    for place, network in product(range(1, 61), ("critic", "actor")):
        maps = {name: rng.random(pairs).round(4).tolist() for name in ("cosine", "similarity", "conflict")}
        yield _line({"step": 1000 * logs * place // 60, "network": network, "update": place, "tasks": TASKS, **maps})


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    size = sum(file.stat().st_size for path in make(folder, count) for file in path.glob("*.jsonl"))
    print(f"{count} runs, {size / 1e6:,.0f} MB below {folder}")
