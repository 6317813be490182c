"""What a toy run leaves in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments_vision.toy.run import MethodRun, ToyResult
from experiments_vision.toy.table import markdown, rows_csv
from mtrl_surgery.runs.durable import write_text


def write_files(result: ToyResult, folder: Path) -> None:
    """Writes `table.md`, `table.csv`, and `<method>.npz` for every method.

    An npz holds, at every n-th step and at the last: step_T, theta_TSP, losses_TSK, weights_TSK (of the step that
    follows; NaN at the end and after a stop), and stopped_S (-1: never). Read it with `numpy.load`; no pickle is in it.

    Args:
        result: The run's.
        folder: An existing one.
    """
    write_text(folder / "table.md", markdown(result))
    write_text(folder / "table.csv", rows_csv(result))
    for run in result.runs:
        np.savez_compressed(folder / f"{run.config.name}.npz", **_arrays(result, run))


def _arrays(result: ToyResult, run: MethodRun) -> dict[str, Any]:
    descent = run.descent
    steps = len(descent.theta_TSP) - 1
    step_T = np.unique(np.append(np.arange(0, steps + 1, result.settings.every), steps))
    theta_TSP = descent.theta_TSP[step_T]
    weights_TSK = np.concatenate((descent.weights_TSK, np.full_like(descent.weights_TSK[:1], np.nan)))[step_T]
    return {
        "step_T": step_T,
        "theta_TSP": theta_TSP,
        "losses_TSK": result.problem.losses_and_jacobian(theta_TSP)[0],
        "weights_TSK": weights_TSK,
        "stopped_S": np.array(descent.stopped_S),
    }
