"""Run folders as the trainer leaves them: made by RunFolder, with written rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments_vision.objectives.registry import judge
from mtrl_surgery.runs.folder import RunFolder

Numbers = Callable[[str, int, str, str], float]
"""(split, epoch, mode, metric) -> value."""


def make_run(
    out: Path,
    dataset: str,
    method: Mapping[str, Any] | str,
    numbers: Numbers,
    *,
    seed: int = 0,
    epochs: int = 12,
    model: str = "net",
    splits: tuple[str, ...] = ("val", "test"),
    seconds: float | None = 2.0,
    status: str = "finished",
    **options: Any,
) -> Path:
    """A finished run whose metrics are `numbers`."""
    method = {"name": method} if isinstance(method, str) else dict(method)
    config = {
        "dataset": {"name": dataset, "data_dir": f"/somewhere/{seed}", "seed": seed},
        "model": model,
        "method": method,
        "seed": seed,
        "epochs": epochs,
        "out": str(out),
        "logger": {"name": f"logger{seed}"},
        **options,
    }
    objective = judge(dataset)
    with RunFolder.create(out, f"{dataset}_{method['name']}_s{seed}", config) as run:
        for epoch in range(epochs):
            for split in splits:
                for task in objective.tasks:
                    names = [spec.name for spec in objective.metrics if spec.task == task]
                    values = {f"{m}/{n}": numbers(split, epoch, m, n) for m in ("batches", "pooled") for n in names}
                    row = {"step": epoch * 10, "epoch": epoch, "split": split, "task": task, "examples": 5}
                    run.evaluations.write({**row, **values})
            if seconds is not None:
                run.health.write({"step": epoch * 10, "event": "epoch", "epoch": epoch, "train_seconds": seconds})
        if status != "running":
            run.finish(status)  # type: ignore[arg-type]
        return run.path
