"""The loop of a supervised run: updates, rows, evaluations, checkpoints; whole after Ctrl-C, and resumed to the bit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from experiments_vision.contract import Objective, Split
from experiments_vision.data.source import DataSource, Examples
from experiments_vision.settings import VisionSettings
from experiments_vision.training.batches import Batch, Plan, split_batches, training_batches
from experiments_vision.training.recorder import Recorder
from experiments_vision.training.schedule import Rates
from experiments_vision.training.team import Team
from experiments_vision.training.update import Evaluator, Update
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.signals import Interrupted, StopSignals, asked_to_end
from mtrl_surgery.tensors import NanStateError, NonFiniteError, nan_paths, to_arrays, to_tensors

LOOK = 10
"""Updates between two looks at whether a signal asks to stop; several processes must agree, which waits for them."""


@dataclass
class Timer:
    """How long an epoch's updates take, evaluations left out.

    Attributes:
        wall: Seconds on the clock.
        cpu: Seconds of all of this process's threads: what the clock would say of one thread on an idle machine.
        updates: Those that were timed.
    """

    wall: float = 0.0
    cpu: float = 0.0
    updates: int = 0

    def start(self) -> None:
        """Before an update."""
        self.wall -= time.monotonic()
        self.cpu -= time.process_time()

    def stop(self) -> None:
        """After it."""
        self.wall += time.monotonic()
        self.cpu += time.process_time()
        self.updates += 1


@dataclass
class TrainerParts:
    """What a run is made of; `experiments_vision.training.assembly` makes them."""

    settings: VisionSettings
    source: DataSource
    splits: dict[Split, Examples]
    objective: Objective
    update: Update
    rates: Rates
    plan: Plan
    team: Team
    recorder: Recorder
    store: CheckpointStore


class VisionTrainer:
    """Trains to the last epoch. All processes of a team run it; the leading one evaluates and writes.

    After an epoch, in this order: evaluation, its rows, the learning rate, a checkpoint. A run that was cut anywhere
    writes the same files.
    """

    def __init__(self, parts: TrainerParts) -> None:
        """Nothing is started yet."""
        self._parts = parts
        self._stop = StopSignals()
        self._store = parts.store
        self.step = 0  # updates done
        self._evaluated = 0  # the last epoch that was evaluated
        self._timer = Timer()
        self._whole = False  # whether the state now is one to resume from

    def run(self, resume: Checkpoint | None = None) -> Path:
        """Train to the end; the manifest's status tells how it went.

        Returns:
            The last checkpoint.

        Raises:
            Interrupted: a signal came; the checkpoint is written.
            NonFiniteError, NanStateError: a loss or the network went wrong; the last sound checkpoint stays.
            VisionError: a damaged file, by its name.
            RunError: the run folder can't be written.
        """
        recorder = self._parts.recorder
        try:
            if resume is not None:
                self._restore(resume)
            self._whole = True
            with self._stop:
                path = self._loop()
        except BaseException as error:
            alone = self._parts.team.size == 1  # several processes save together, and the others may be elsewhere
            saves = alone and self._whole and not (asked_to_end(error) or isinstance(error, ArithmeticError))
            recorder.close(error, [self._save] if saves else [])
            raise
        recorder.close(None)
        return path

    def _loop(self) -> Path:
        parts, settings = self._parts, self._parts.settings
        plan, recorder = parts.plan, parts.recorder
        self._after_epoch()  # where a run was stopped in the middle of an evaluation
        batches = self._batches()
        while self.step < plan.updates:
            self._timer.start()
            parts.rates.begin_epoch(self.step // plan.updates_per_epoch)
            examples = list(islice(batches, settings.accumulate))
            self._whole = False
            parts.update(self.step, examples)
            self.step += 1
            self._whole = True
            self._timer.stop()
            if self.step % settings.log_every == 0 or self.step == plan.updates:
                self._check()  # before a row of numbers that mean nothing
                self._whole = False  # with some of these rows written, and others not
                parts.team.average(parts.update.loss_sum_K)
                recorder.metrics(self.step, self.epoch, parts.update)
                self._whole = True
            recorder.progress(self.step)
            if self.step % LOOK == 0:
                self._heed_signal()
            self._after_epoch()
        return self._save()

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self._parts.plan.updates_per_epoch

    def _batches(self) -> Iterator[Batch]:
        parts = self._parts
        return training_batches(
            parts.source, parts.splits["train"], parts.plan, self.step, parts.settings.workers, parts.update.device
        )

    def _after_epoch(self) -> None:
        parts, epoch = self._parts, self.epoch
        if self.step % parts.plan.updates_per_epoch or epoch in (0, self._evaluated):
            return
        settings = parts.settings
        if parts.update.device.type == "cuda":
            torch.cuda.synchronize(parts.update.device)  # the epoch's time is to be that of its work
        if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
            with parts.recorder.paused():
                self._evaluate(epoch)
        self._evaluated = epoch
        if self._timer.updates:
            parts.recorder.epoch(self.step, epoch, vars(self._timer))
        self._timer = Timer()
        if epoch % settings.checkpoint.every == 0:
            self._save()
        self._heed_signal()

    def _evaluate(self, epoch: int) -> None:
        """The leader measures every split but train; all processes then follow its learning rate."""
        parts = self._parts
        score: float | None = None
        found: dict[Split, dict[str, dict[str, float]]] = {}
        began = time.monotonic()
        if parts.team.leads:
            for split, examples in parts.splits.items():
                if split == "train":
                    continue
                batches = split_batches(
                    parts.source, examples, parts.settings.batch_size, parts.settings.workers, parts.update.device
                )
                # Alone, a stop need not wait for a long evaluation: a resumed run does it again.
                values = Evaluator(parts.update)(
                    batches, lambda: self._stop.requested is not None and parts.team.size == 1
                )
                if values is None:
                    self._heed_signal()
                    return
                found[split] = values
                if split == "val":
                    score = parts.objective.score(values["pooled"])
            self._whole = False
            parts.recorder.evaluation(self.step, epoch, found, parts.splits, time.monotonic() - began)
        parts.rates.end_epoch(score, parts.team)
        self._whole = True

    def _heed_signal(self) -> None:
        """End the run, whole, if a signal asks for it in any process."""
        if self._parts.team.any(self._stop.requested is not None, self._parts.update.device):
            path = self._save()
            raise Interrupted(self._stop.requested or 15, path)

    def _check(self) -> None:
        """Wait for the device, and raise NonFiniteError if a loss or gradient so far was NaN or infinite."""
        parts = self._parts
        first_K = parts.update.surgery.first_bad_call_K.tolist()
        bad = [(call, task) for task, call in zip(parts.objective.tasks, first_K, strict=True) if call >= 0]
        if bad:
            call = min(bad)[0]
            tasks = ", ".join(task for first, task in bad if first == call)
            raise NonFiniteError(
                f"update {call}: the loss or gradient of {tasks} was NaN or infinite; a lower optimizer.lr "
                f"({parts.rates.rate:g} now) or max_norm may help, and `check` looks at the data"
            )

    def _save(self) -> Path:
        parts = self._parts
        parts.team.average(parts.update.loss_sum_K)  # the only part that the processes do not have in common
        state = to_arrays(parts.update.state_dict())
        where = next(nan_paths(state["model"], "model"), None)
        if where is not None:
            self._check()  # its error names task and update
            raise NanStateError(f"{where} holds a NaN; the last checkpoint before it is kept")
        if not parts.team.leads:
            return parts.store.folder / f"step-{self.step:09d}"
        return parts.store.save(
            self.step,
            {
                "update": state,
                "rates": parts.rates.state_dict(),
                "recorder": parts.recorder.state_dict(),
                "step": self.step,
                "evaluated": self._evaluated,
                "timer": dict(vars(self._timer)),
            },
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        parts, state = self._parts, checkpoint.state
        if parts.team.leads:
            parts.store.rewind(checkpoint)
            parts.recorder.load_state_dict(state["recorder"])
        parts.update.load_state_dict(_plain(to_tensors(state["update"])))
        parts.rates.load_state_dict(state["rates"])
        self.step, self._evaluated = state["step"], state["evaluated"]
        self._timer = Timer(**state["timer"])


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return dict(state)
