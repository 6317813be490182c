"""The rows' readers besides the run folder: TensorBoard and Weights & Biases.

A row is a dict with `step` (int) and `task` (a name, or None for the whole run); every other finite number in
it is a scalar called `<task or run>/<key>`. A sink can always be rebuilt from the run folder.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

import numpy as np

from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.reading import RunError
from mtrl_surgery.shell import install

SINKS = ("tensorboard", "wandb", "none")
WANDB_MODES = ("online", "offline", "disabled")
WHOLE_RUN = "run"
"""Takes the task's place in a scalar's name, for rows about no single task."""


@dataclass
class LoggerConfig:
    """Where metrics go besides the run folder, which always has them."""

    name: Annotated[str, "tensorboard | wandb | none"] = "tensorboard"
    project: Annotated[str, "Weights & Biases project"] = "mtrl-surgery"
    entity: Annotated[str | None, "Weights & Biases user or team; null: the account's default"] = None
    mode: Annotated[str, "Weights & Biases: online | offline | disabled"] = "online"
    console: Annotated[bool, "show a line of progress"] = True

    def validate(self) -> None:
        """Raise RunError for an unknown value or a package that is not installed; it names the key and the choices."""
        for key, choices in (("name", SINKS), ("mode", WANDB_MODES)):
            if getattr(self, key) not in choices:
                raise RunError(f"logger.{key}={getattr(self, key)!r} is unknown; choices: {', '.join(choices)}")
        if self.name == "wandb" and importlib.util.find_spec("wandb") is None:
            raise RunError(f"logger=wandb needs wandb, which is not installed: {install('wandb')}")


class Sink(Protocol):
    """A reader of rows."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows; each has `step` and `task`."""

    def close(self) -> None:
        """Flush everything."""


class TensorBoardSink:
    """Scalars in `<run>/tensorboard`, by tensorboard's own writer, which needs no torch."""

    def __init__(self, run: RunFolder, purge_step: int | None = None) -> None:
        """Start a new event file; TensorBoard forgets what an earlier process wrote from `purge_step` on."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(run.path / "tensorboard"))
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            event = event_pb2.Event(wall_time=time.time(), step=purge_step, session_log=start)
            self._writer.add_event(event)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows' scalars at their steps."""
        for row in rows:
            values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in scalars(row)]
            summary = self._summary.Summary(value=values)
            self._writer.add_event(self._event.Event(wall_time=time.time(), step=row["step"], summary=summary))

    def close(self) -> None:
        """Flush to disk."""
        self._writer.close()


class WandbSink:
    """Scalars to Weights & Biases, over the axis `step`; a resumed run goes on under its old id."""

    def __init__(self, run: RunFolder, config: LoggerConfig) -> None:
        """Start or go on with the run; RunError if wandb is not installed, or does not start (no login, no network)."""
        import wandb

        try:
            self._run = wandb.init(
                project=config.project,
                entity=config.entity,
                mode=cast(Any, config.mode),
                id=run.manifest()["id"],
                name=run.path.name,
                config=run.config(),
                dir=str(run.path),
                resume="allow",
            )
        except wandb.Error as error:
            raise RunError(f"logger=wandb (mode={config.mode}) does not start: {error}") from error
        # an axis of our own: wandb's step cannot go back, and a resume does when it repeats steps
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the rows' scalars, those of one step together."""
        steps: dict[int, dict[str, float]] = {}
        for row in rows:
            steps.setdefault(int(row["step"]), {}).update(scalars(row))
        for step, values in steps.items():
            self._run.log({"step": step, **values})

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


def scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers of a row by `<task or run>/<key>`; texts, lists and gaps are no scalars."""
    prefix = row.get("task") or WHOLE_RUN
    for key, value in row.items():
        if key not in ("step", "task") and isinstance(value, int | float | np.floating | np.integer | np.bool_):
            number = float(value)
            if math.isfinite(number):
                yield f"{prefix}/{key}", number


def make_sinks(config: LoggerConfig, run: RunFolder, purge_step: int | None = None) -> list[Sink]:
    """The sinks that the user chose.

    Args:
        config: The choice.
        run: The run, open for writing.
        purge_step: On a resume, the first step that will be written again.

    Raises:
        RunError: An unknown name, or a library that is not installed.
    """
    config.validate()
    if config.name == "none":
        return []
    return [WandbSink(run, config) if config.name == "wandb" else TensorBoardSink(run, purge_step)]
