"""The training driver: what sync and async runs share, from resume to the last evaluation."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from cluster.config import ClusterError, LearnerLost
from cluster.training.checkpointing import Checkpointer, check_same
from cluster.training.collect import PENDING_EVALUATIONS, Collected, Collector, EvaluationOrder, Lost
from cluster.training.contracts import Learner
from cluster.training.limiter import UpdateLimiter
from cluster.training.recorder import Recorder
from cluster.training.schedule import Schedule
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.console import duration
from mtrl_surgery.runs.signals import Interrupted, StopSignals, asked_to_end, finish

DRAINED = signal.SIGTERM  # what a preempted machine's processes get in the end
POLL = 0.5  # seconds of waiting for a chunk between two looks at the signals
LOOK = 10  # updates between two looks at the signals: a round of large updates may last minutes


@dataclass
class TrainerParts:
    """What a trainer is made of; it starts and closes the collector and closes the recorder.

    Attributes:
        learner: Learns from chunks.
        collector: Collects them; not started.
        limiter: Holds the update-to-data ratio; its warm-up is collected with random actions.
        recorder: Writes rows; its run folder is the caller's to close.
        store: Keeps checkpoints.
        schedule: Says when.
    """

    learner: Learner
    collector: Collector
    limiter: UpdateLimiter
    recorder: Recorder
    store: CheckpointStore
    schedule: Schedule


@dataclass
class Clock:
    """Seconds since the last row of health, by what the driver did."""

    wait: float = 0.0
    learn: float = 0.0
    collect: float = 0.0  # by the workers
    lag: list[int] = field(default_factory=list)  # updates between a chunk's weights and the newest at its insertion
    since: float = field(default_factory=time.monotonic)
    steps: int = 0
    updates: int = 0
    worker_steps: Counter[int] = field(default_factory=Counter)  # environment steps used, by worker
    worker_lag: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # versions, by worker


class Drained(Interrupted):
    """The driver's node was told to go; the run stopped as if by SIGTERM, after it wrote a checkpoint."""

    def __str__(self) -> str:
        return f"stopped because the driver's node is being drained; the checkpoint is {self.checkpoint}"


class Trainer(ABC):
    """Runs the collector and the learner to the end of the schedule. Use `cluster.assembly.make_trainer`.

    At every boundary between chunks, in this order: finished evaluations are written, a checkpoint is taken if it's due
    or a signal asks to stop, then rows are written and an evaluation is ordered. A resumed run starts with the last
    step, so a run that was cut anywhere writes the same files.
    """

    mode: ClassVar[str]

    def __init__(self, parts: TrainerParts) -> None:
        """Nothing is started yet."""
        self.learner, self.collector, self.limiter = parts.learner, parts.collector, parts.limiter
        self.recorder, self.schedule = parts.recorder, parts.schedule
        self._checkpointer = Checkpointer(parts.store, parts.learner)
        self._pending: list[EvaluationOrder] = []
        self._stop = StopSignals()
        self._clock = Clock()
        self._saved: tuple[tuple[int, ...], Path] | None = None  # the stamp and folder of the newest checkpoint
        self._whole = False  # whether the state now is one to resume from
        self.before = 0  # steps at the last boundary
        self.step = 0  # vector steps inserted, of the slowest task
        self._reported = True  # whether what the last boundary made due is written and ordered
        self._seconds_an_episode: float | None = None  # of the last evaluation, all tasks together

    def run(self, resume: Checkpoint | None = None) -> Path:
        """Train to the end; the manifest's status tells how it went.

        Args:
            resume: Where to go on; rows and checkpoints after it are forgotten.

        Returns:
            The last checkpoint.

        Raises:
            Interrupted: a signal came; the checkpoint is written.
            EnvironmentFailure, NotDeterministicError: an environment; a checkpoint is written before.
            ClusterError: the workers kept dying, or the checkpoint is of another run; written before as well.
            NonFiniteError, NanStateError: the learner; the last sound checkpoint stays.
            RunError: the run folder can't be written.
            BaseException: anything else; a checkpoint is written before, if the state is whole.
        """
        try:
            self._begin(resume)
            with self._stop:
                self._loop()
                path = self._last_checkpoint()
        except BaseException as error:
            if isinstance(error, LearnerLost):
                error.step, error.updates = self.step, self.limiter.updates
            self._end(error)
            raise
        self._end(None)
        return path

    @abstractmethod
    def _loop(self) -> None:
        """Collect and learn until the schedule's last step is inserted and its updates are done."""

    @abstractmethod
    def _start(self, state: Mapping[str, Any] | None) -> None:
        """Start the collector, at the beginning or where the checkpoint's state has it."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The mode's own part of a checkpoint."""

    def _begin(self, resume: Checkpoint | None) -> None:
        if resume is None:
            self._start(None)
        else:
            state = resume.state
            check_same("mode", state["mode"], self.mode)
            step = state["step"] + state.get("inserted", 0)  # sync: with the round that is half done
            if step > self.schedule.total_steps:
                raise ClusterError(f"total_steps={self.schedule.total_steps} lies before the checkpoint's step {step}")
            self.limiter.load_state_dict(state["limiter"])
            self._checkpointer.restore(resume)
            self.recorder.load_state_dict(state["recorder"])
            self.before, self.step, self._reported = state["before"], state["step"], state["reported"]
            self._start(state)
            self._saved = self._stamp(), resume.path
            for fields in state["evaluations"]:
                self._evaluate(EvaluationOrder(**fields))
        self._clock = Clock(steps=self.step, updates=self.limiter.updates)
        self._whole = True

    def _advance(self, step: int) -> None:
        self.before, self.step, self._reported = self.step, step, False

    def _boundary(self) -> None:
        """Between two chunks, at a state that can be resumed."""
        self._write_evaluations(block=False)
        self._heed_signal()
        if self.schedule.checkpoints(self.before, self.step):
            self._save()
        self._report()

    def _heed_signal(self) -> None:
        """Look after the workers, and end the run, whole, if a signal or the node's end asks for it.

        Only called where the state can be resumed.
        """
        self.collector.tend()
        self._note_events()
        if self._stop.requested is not None:
            self._save()
            raise Interrupted(self._stop.requested, self._last_checkpoint())
        if self.collector.notice is not None:
            self.recorder.health(self.step, {"event": "drain notice", "text": self.collector.notice})
            self._save()
            raise Drained(DRAINED, self._last_checkpoint())

    def _report(self) -> None:
        """Write the rows and order the evaluation that the last chunk made due, once."""
        if not self._reported:
            self._reported = True
            self._write_due()
        if self.step >= self.schedule.total_steps:
            self._write_evaluations(block=True)

    def _write_due(self) -> None:
        if self.schedule.logs(self.before, self.step):
            self._whole = False  # with some of these rows written, and others not
            rows = self.learner.metrics()
            self.recorder.metrics(self.step, self.limiter.updates, rows, self.learner.conflict_maps())
            self._whole = True
            self._write_health()
        episodes = self.schedule.episodes(self.before, self.step)
        if episodes:
            weights, updates = self.learner.policy_weights(), self.limiter.updates
            self._evaluate(EvaluationOrder(self.step, updates, weights, episodes, self.schedule.protocol))
        self.recorder.progress(self.step, self.limiter.updates)

    def _evaluate(self, order: EvaluationOrder) -> None:
        if len(self._pending) >= PENDING_EVALUATIONS:
            self._write_evaluations(block=True, most=PENDING_EVALUATIONS - 1)
        self._pending.append(order)
        self.collector.evaluate(order)

    def _write_evaluations(self, block: bool, most: int = 0) -> None:
        """Write those that are finished; wait for the others if `block`, until `most` are left."""
        if block and len(self._pending) > most:
            episodes = sum(order.episodes for order in self._pending)
            about = duration(self._seconds_an_episode and self._seconds_an_episode * episodes)
            self.recorder.say(f"testing the policy, {episodes} episodes a task  ETA {about}")
        while True:
            with self.recorder.paused():  # an inline collector plays the episodes now
                found = self.collector.evaluations()
            for evaluated in found:
                self._pending.pop(0)
                self.recorder.evaluation(evaluated)
                self._seconds_an_episode = evaluated.seconds / evaluated.order.episodes
            self._note_events()
            if not (block and len(self._pending) > most):
                return
            self._heed_signal()
            with self.recorder.paused():
                time.sleep(POLL / 5)

    def _receive(self, timeout: float) -> Collected | Lost | None:
        started = time.monotonic()
        received = self.collector.receive(timeout)
        self._clock.wait += time.monotonic() - started
        self._note_events()
        if isinstance(received, Collected):
            self._clock.collect += sum(received.seconds)
        return received

    def _count(self, used: Collected, newest: int) -> None:
        """A chunk goes into the replay, where `newest` is the version of the newest weights."""
        self.collector.ledger.used += len(used.chunk.tasks)
        self._clock.worker_steps[used.worker] += used.chunk.reward_KTN.size
        self._clock.worker_lag[used.worker].append(newest - used.version)

    def _learn(self, updates: int, step: int) -> None:
        """Do updates that `step` inserted vector steps pay for; the state after them can be resumed."""
        started = time.monotonic()
        self._whole = False
        self.learner.update(updates)
        self.limiter.record(updates, step)
        self._whole = True
        self._clock.learn += time.monotonic() - started

    def _stamp(self) -> tuple[int, ...]:
        """Tells two states of this run apart."""
        return self.step, self.limiter.updates

    def _save(self) -> None:
        """A checkpoint of the state now, unless there is one or the state is half-way through an update or a chunk."""
        if not self._whole or (self._saved is not None and self._saved[0] == self._stamp()):
            return
        state = {
            "mode": self.mode,
            "before": self.before,
            "step": self.step,
            "reported": self._reported,
            "limiter": self.limiter.state_dict(),
            "recorder": self.recorder.state_dict(),
            "evaluations": [dict(vars(order)) for order in self._pending],
            **self._state(),
        }
        started = time.monotonic()
        self._saved = self._stamp(), self._checkpointer.save(self.step, state)
        seconds = round(time.monotonic() - started, 3)
        self.recorder.health(self.step, {"event": "checkpoint", "seconds": seconds})

    def _note_events(self) -> None:
        for event in self.collector.events():
            self.recorder.event(self.step, event)

    def _last_checkpoint(self) -> Path:
        if self._saved is None:
            raise ClusterError("there is no checkpoint: the run ended before its first round was done")
        return self._saved[1]

    def _write_health(self) -> None:
        clock, now = self._clock, time.monotonic()
        seconds = max(now - clock.since, 1e-9)
        row = {
            "steps_per_s": round((self.step - clock.steps) / seconds, 3),
            "updates_per_s": round((self.limiter.updates - clock.updates) / seconds, 3),
            "wait_s": round(clock.wait, 3),
            "learn_s": round(clock.learn, 3),
            "collect_s": round(clock.collect, 3),
            "lag_updates": sum(clock.lag) / len(clock.lag) if clock.lag else 0.0,
            "workers": sum(worker.state == "ready" for worker in self.collector.workers()),
            "restarts": len(self.collector.replaced),
            **self.collector.ledger.row(),
            "rollout_workers": self._worker_rows(seconds),
        }
        self.recorder.health(self.step, row)
        self._clock = Clock(steps=self.step, updates=self.limiter.updates)

    def _worker_rows(self, seconds: float) -> list[dict[str, Any]]:
        clock = self._clock
        return [
            {
                "worker": worker.number,
                "state": worker.state,
                "node": worker.node,
                "pid": worker.pid,
                "tasks": list(worker.tasks),
                "steps_per_s": round(clock.worker_steps[worker.number] / seconds, 1),
                "lag_versions": fmean(lag) if (lag := clock.worker_lag.get(worker.number)) else None,
                "restarts": worker.restarts,
            }
            for worker in self.collector.workers()
        ]

    def _end(self, error: BaseException | None) -> None:
        """Save what can be saved, close everything, and note how the run ended: by the first thing that went wrong.

        Raises:
            Exception: nothing was wrong before, and something can't be closed.
        """
        steps: list[Callable[[], object]] = [self.learner.close, self.collector.close, self._last_row]
        if not (error is None or asked_to_end(error) or isinstance(error, ArithmeticError | LearnerLost)):
            steps.insert(0, self._save)
        finish(self.recorder.run, error, [*steps, self.recorder.close])

    def _last_row(self) -> None:
        self.recorder.event(self.step, {"event": "end", **self.collector.ledger.row()})
