"""The tables and the files of a run: the steps in which every method comes to the target from every start."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments_vision.toy.measures import Arrival
from experiments_vision.toy.run import ToyResult
from mtrl_surgery.runs.durable import write_text

_FIELDS = (
    "method", "start_x", "start_y", "end_x", "end_y", "loss_1", "loss_2", "from_optimum", "optimum_step", "from_pareto",
    "pareto_step", "stopped",
)  # fmt: skip


def write_files(result: ToyResult, folder: Path) -> None:
    """Write `table.md`, `table.csv`, and `<method>.npz` for every method, into an existing folder.

    An npz holds, at every n-th step and at the last: step_T, theta_TSP, losses_TSK, weights_TSK (of the step that
    follows; NaN at the end and after a stop), and stopped_S (-1: never). Read it with `numpy.load`; no pickle is in it.
    """
    write_text(folder / "table.md", markdown(result))
    write_text(folder / "table.csv", rows_csv(result))
    steps, every = result.settings.num_steps, result.settings.every
    step_T = np.unique(np.append(np.arange(0, steps + 1, every), steps))
    for run in result.runs:
        theta_TSP, weights_TSK, stopped_S = run.descent
        weights_TSK = np.concatenate((weights_TSK, np.full_like(weights_TSK[:1], np.nan)))
        np.savez_compressed(
            folder / f"{run.config.name}.npz",
            step_T=step_T,
            theta_TSP=theta_TSP[step_T],
            losses_TSK=result.problem.losses_and_jacobian(theta_TSP[step_T])[0],
            weights_TSK=weights_TSK[step_T],
            stopped_S=np.array(stopped_S),
        )


def markdown(result: ToyResult) -> str:
    """A row a method: steps to the target from every start, or how far off the end is.

    The target is the minimum of L1 + L2; or the Pareto set, where the losses are scaled so that the minimum is not what
    the methods look for.
    """
    settings = result.settings
    balanced = settings.facts.balanced
    header = ["method", *(f"({x:g}, {y:g})" for x, y in settings.points), "optimum", "Pareto set", "x at the end"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for run in result.runs:
        ends = [arrival.end[0] for arrival in run.arrivals]
        arrived = zip(*((arrival.optimum_step, arrival.pareto_step) for arrival in run.arrivals), strict=True)
        counts = [f"{sum(step is not None for step in steps)} / {len(steps)}" for steps in arrived]
        cells = [_cell(arrival, balanced) for arrival in run.arrivals]
        rows.append([run.config.name, *cells, *counts, f"{min(ends) + 0.0:.1f} to {max(ends) + 0.0:.1f}"])
    rows += [[name, *["refused"] * len(settings.points), "", "", ""] for name in result.refused]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", _legend(result)]) + "\n"


def rows_csv(result: ToyResult) -> str:
    """A row for each method and start."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for run in result.runs:
        for arrival in run.arrivals:
            numbers = (*arrival.start, *arrival.end, *arrival.losses, arrival.from_optimum, arrival.from_pareto)
            *where, optimum, pareto = (f"{number + 0.0:.6g}" for number in numbers)
            steps = (optimum, arrival.optimum_step, pareto, arrival.pareto_step, arrival.stopped)
            writer.writerow([run.config.name, *where, *steps])
    return text.getvalue()


def _cell(arrival: Arrival, balanced: bool) -> str:
    step = arrival.optimum_step if balanced else arrival.pareto_step
    if step is not None:
        return f"{step:,}"
    if arrival.stopped is not None:
        return f"no direction at {arrival.stopped:,}"
    distance = arrival.from_optimum if balanced else arrival.from_pareto
    return f"off by {distance:.2g}" if distance < 10 else f"off by {distance:.0f}"


def _legend(result: ToyResult) -> str:
    settings = result.settings
    target = "the minimum of L1 + L2" if settings.facts.balanced else "the Pareto set"
    optima = " and ".join(f"({x + 0.0:.2f}, {y:.2f})" for x, y in (result.targets.optima_NP.round(4) + 0.0).tolist())
    clip = "no clipping" if settings.max_norm is None else f"clipped to norm {settings.max_norm:g}"
    options = []
    for run in result.runs:
        default, own = asdict(type(run.config)()), asdict(run.config)
        chosen = ", ".join(f"{key}={value}" for key, value in own.items() if value != default[key])
        options += [f"{run.config.name} ({chosen})"] if chosen else []
    scales = f"{settings.scales[0]:g} and {settings.scales[1]:g}"
    parts = [
        f"{settings.problem}, {settings.num_steps:,} steps of Adam at {settings.lr:g}, {clip}, "
        f"starts={settings.starts}, sign={settings.sign}, scales {scales}, seed {settings.seed}.",
        f"Cells: the first step from which the point stays within {settings.within:g} of {target}.",
        f"The minimum of L1 + L2: {optima}.",
        f"Options: {'; '.join(options)}." if options else "",
    ]
    return " ".join(parts).rstrip()
