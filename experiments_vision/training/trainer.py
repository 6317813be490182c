"""The loop of a supervised run: updates, rows, evaluations, checkpoints; whole after Ctrl-C, and resumed to the bit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from experiments_vision.contract import Modes, Objective, Split
from experiments_vision.data.source import DataSource, Examples
from experiments_vision.settings import VisionSettings
from experiments_vision.training.batches import Plan, in_order, load
from experiments_vision.training.recorder import Recorder
from experiments_vision.training.schedule import Rates
from experiments_vision.training.update import Update, evaluate
from experiments_vision.training.world import World
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.signals import Interrupted, StopSignals, asked_to_end
from mtrl_surgery.tensors import NanStateError, NonFiniteError, nan_paths, to_arrays, to_tensors

LOOK = 10
"""Updates between two looks at whether a signal asks to stop; several processes must agree, which waits for them."""


@dataclass
class Timer:
    """Seconds that an epoch's updates take, on the clock and of all threads; evaluations are left out."""

    wall: float = 0.0
    cpu: float = 0.0
    updates: int = 0

    def start(self) -> None:
        """Begin an update."""
        self.wall -= time.monotonic()
        self.cpu -= time.process_time()

    def stop(self) -> None:
        """End it."""
        self.wall += time.monotonic()
        self.cpu += time.process_time()
        self.updates += 1


@dataclass
class VisionTrainer:
    """Trains to the last epoch. All processes run it; the leading one evaluates and writes.

    After an epoch, in this order: evaluation, its rows, the learning rate, a checkpoint. A run that was cut anywhere
    writes the same files. `experiments_vision.training.assembly` makes one.
    """

    settings: VisionSettings
    source: DataSource
    splits: dict[Split, Examples]
    objective: Objective
    update: Update
    rates: Rates
    plan: Plan
    world: World
    recorder: Recorder
    store: CheckpointStore
    step: int = 0  # updates done
    _evaluated: int = 0  # the last epoch that was evaluated
    _whole: bool = False  # whether the state now is one to resume from
    _timer: Timer = field(default_factory=Timer)
    _stop: StopSignals = field(default_factory=StopSignals)

    def run(self, resume: Checkpoint | None = None) -> Path:
        """Train to the end, and return the last checkpoint; the manifest's status tells how it went.

        Raises:
            Interrupted: a signal came; the checkpoint is written.
            NonFiniteError, NanStateError: a loss or the network went wrong; the last sound checkpoint stays.
            VisionError: a damaged file, by its name.
            RunError: the run folder can't be written.
        """
        try:
            if resume is not None:
                self._restore(resume)
            self._whole = True
            with self._stop:
                path = self._loop()
        except BaseException as error:
            alone = self.world.size == 1  # several processes save together, and the others may be elsewhere
            saves = alone and self._whole and not (asked_to_end(error) or isinstance(error, ArithmeticError))
            self.recorder.close(error, [self._save] if saves else [])
            raise
        self.recorder.close(None)
        return path

    def _loop(self) -> Path:
        settings, plan = self.settings, self.plan
        self._after_epoch()  # where a run was stopped in the middle of an evaluation
        chosen = plan.micro_batches(self.step)
        batches = load(self.source, self.splits["train"], chosen, settings.workers, self.update.device)
        while self.step < plan.updates:
            self._timer.start()
            self.rates.begin_epoch(self.step // plan.updates_per_epoch)
            examples = list(islice(batches, settings.accumulate))
            self._whole = False
            self.update(self.step, examples)
            self.step += 1
            self._whole = True
            self._timer.stop()
            if self.step % settings.log_every == 0 or self.step == plan.updates:
                self._check()  # before a row of numbers that mean nothing
                self._whole = False  # with some of these rows written, and others not
                self.world.average(self.update.loss_sum_K)
                self.recorder.metrics(self.step, self.epoch, self.update)
                self._whole = True
            self.recorder.progress(self.step)
            if self.step % LOOK == 0:
                self._heed_signal()
            self._after_epoch()
        return self._save()

    @property
    def epoch(self) -> int:
        """The number of whole epochs that are done."""
        return self.step // self.plan.updates_per_epoch

    def _after_epoch(self) -> None:
        epoch = self.epoch
        if self.step % self.plan.updates_per_epoch or epoch in (0, self._evaluated):
            return
        settings = self.settings
        if self.update.device.type == "cuda":
            torch.cuda.synchronize(self.update.device)  # the epoch's time is to be that of its work
        if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
            with self.recorder.paused():
                self._evaluate(epoch)
        self._evaluated = epoch
        if self._timer.updates:
            self.recorder.epoch(self.step, epoch, vars(self._timer))
        self._timer = Timer()
        if epoch % settings.checkpoint.every == 0:
            self._save()
        self._heed_signal()

    def _evaluate(self, epoch: int) -> None:
        """The leader measures every split but train; all processes then follow its learning rate."""
        score: float | None = None
        found: dict[Split, Modes] = {}
        began = time.monotonic()
        alone = self.world.size == 1  # then a stop need not wait for a long evaluation: a resumed run does it again
        if self.world.leads:
            for split, examples in self.splits.items():
                if split == "train":
                    continue
                chosen = in_order(len(examples), self.settings.batch_size)
                batches = load(self.source, examples, chosen, self.settings.workers, self.update.device)
                values = evaluate(self.update, batches, lambda: alone and self._stop.requested is not None)
                if values is None:
                    self._heed_signal()
                    return
                found[split] = values
                if split == "val":
                    score = self.objective.score(values["pooled"])
            self._whole = False
            self.recorder.evaluation(self.step, epoch, found, self.splits, time.monotonic() - began)
        self.rates.end_epoch(score, self.world)
        self._whole = True

    def _heed_signal(self) -> None:
        """End the run, whole, if a signal asks for it in any process."""
        if self.world.any(self._stop.requested is not None, self.update.device):
            path = self._save()
            raise Interrupted(self._stop.requested or 15, path)

    def _check(self) -> None:
        """Wait for the device, and raise NonFiniteError if a loss or gradient so far was NaN or infinite."""
        first_K = self.update.surgery.first_bad_call_K.tolist()
        bad = [(call, task) for task, call in zip(self.objective.tasks, first_K, strict=True) if call >= 0]
        if bad:
            call = min(bad)[0]
            tasks = ", ".join(task for first, task in bad if first == call)
            raise NonFiniteError(
                f"update {call}: the loss or gradient of {tasks} was NaN or infinite; a lower optimizer.lr "
                f"({self.rates.rate:g} now) or max_norm may help, and `check` looks at the data"
            )

    def _save(self) -> Path:
        self.world.average(self.update.loss_sum_K)  # the only part that the processes do not have in common
        state = to_arrays(self.update.state_dict())
        where = next(nan_paths(state["model"], "model"), None)
        if where is not None:
            self._check()  # its error names task and update
            raise NanStateError(f"{where} holds a NaN; the last checkpoint before it is kept")
        if not self.world.leads:
            return self.store.folder / f"step-{self.step:09d}"
        whole = {"update": state, "rates": self.rates.state_dict(), "recorder": self.recorder.state_dict()}
        whole |= {"step": self.step, "evaluated": self._evaluated, "timer": dict(vars(self._timer))}
        return self.store.save(self.step, whole)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        if self.world.leads:
            self.store.rewind(checkpoint)
            self.recorder.load_state_dict(state["recorder"])
        self.update.load_state_dict(dict(to_tensors(state["update"])))
        self.rates.load_state_dict(state["rates"])
        self.step, self._evaluated = state["step"], state["evaluated"]
        self._timer = Timer(**state["timer"])
