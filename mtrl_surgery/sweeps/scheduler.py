"""Has Ray do the runs: starts them where there is room, hears how they end, and starts again what was lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError, TaskCancelledError

from cluster.workers.session import RaySession
from mtrl_surgery.runs.folder import LOG
from mtrl_surgery.runs.signals import StopSignals
from mtrl_surgery.sweeps.attempt import Ended, Order, Started, attempt
from mtrl_surgery.sweeps.folder import Entry, SweepFolder, Table
from mtrl_surgery.sweeps.options import SweepOptions
from mtrl_surgery.sweeps.plan import RunPlan, standing_of
from mtrl_surgery.sweeps.room import Node, cluster_nodes, fits

_POLL = 0.5  # seconds between two looks at signals and the stop file
_SURVEY = 2.0  # seconds between two looks at the cluster's nodes
_STOPPED = (130, 143)  # exit codes of a run that wrote its checkpoint because a signal asked it to


@dataclass
class _Job:
    """A run that Ray was given.

    Attributes:
        plan: The run.
        entry: Its row in the table.
        answers: Of its task: `Started`, then `Ended`.
        lost: Times in a row that it was lost without a new checkpoint.
        newest: Its newest checkpoint when it was lost last.
    """

    plan: RunPlan
    entry: Entry
    answers: Any = None
    lost: int = 0
    newest: str = ""


class Scheduler:
    """One sweep, from its first run to its last."""

    def __init__(
        self,
        folder: SweepFolder,
        table: Table,
        plans: list[RunPlan],
        options: SweepOptions,
        session: RaySession,
        shown: Callable[[Entry | None], None],
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Where the table is written.
            table: Its entries are those of the plans, in order; `pending` ones are done.
            plans: The runs.
            options: How.
            session: The connection to Ray, which is the caller's to close.
            shown: Called with an entry that has changed, and with None now and then.
        """
        self._folder, self._table, self._options, self._session = folder, table, options, session
        self._shown = shown
        jobs = [_Job(plan, entry) for plan, entry in zip(plans, table.entries, strict=True)]
        self._waiting = [job for job in jobs if job.entry.state == "pending"]
        self._given: list[_Job] = []
        self._nodes: list[Node] = []
        self._surveyed = float("-inf")
        self.stopping = False

    def run(self, signals: StopSignals) -> None:
        """Until every run is over, or until it is asked to stop and all that ran have ended.

        Raises:
            SweepFailure: the cluster's head node does not answer.
        """
        while True:
            if not self.stopping and (signals.requested is not None or self._folder.stop_file.exists()):
                self._stop()
            self._survey()
            self._give()
            if not self._given:
                return
            self._listen()
            self._shown(None)

    def _survey(self) -> None:
        if time.monotonic() - self._surveyed >= _SURVEY:
            self._surveyed = time.monotonic()
            self._nodes = cluster_nodes()

    def _give(self) -> None:
        """Hand Ray the runs that there is room for, and one at least: an autoscaler takes it for demand."""
        failures, limit = self._table.count("failed"), self._options.max_failures
        if self.stopping or (limit is not None and failures >= limit):
            return
        while self._waiting and len(self._given) < (self._options.parallel or len(self._table.entries)):
            job = self._waiting[0]
            if self._given and not fits((other.plan.need for other in self._given), job.plan.need, self._nodes):
                return
            self._given.append(self._waiting.pop(0))
            job.answers = self._submit(job.plan)

    def _submit(self, plan: RunPlan) -> Any:
        need = plan.need
        joined = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address} if need.joins else {}
        order = Order(plan.command, str(plan.folder), str(self._folder.path), os.getcwd(), joined)
        task = _attempt.options(
            name=f"sweep: {plan.label}",
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            runtime_env=self._session.worker_environment(max(1, int(need.cpus))),
        )
        return task.remote(order)

    def _listen(self) -> None:
        waited = {job.answers: job for job in self._given}
        ready: list[Any] = ray.wait(list(waited), num_returns=1, timeout=_POLL, fetch_local=False)[0]
        for answers in ready:
            job = waited[answers]
            try:
                answer: Any = ray.get(next(answers))
            except StopIteration:
                self._lost(job, "its task ended without a word")
            except TaskCancelledError:
                self._over(job, "pending", "")
            except (RayTaskError, RuntimeEnvSetupError) as error:
                self._over(job, "failed", _explain(error))
            except RayError as error:
                self._lost(job, _explain(error))
            else:
                self._heed(job, answer)

    def _heed(self, job: _Job, answer: Started | Ended) -> None:
        entry = job.entry
        if isinstance(answer, Started):
            entry.state, entry.where, entry.node = "running", answer.host, answer.node
            entry.attempts, entry.since, entry.note = entry.attempts + 1, time.time(), ""
            self._changed(entry)
        elif answer.code == 0 and (standing := standing_of(job.plan.folder)) == "finished":
            self._over(job, "done", "")
        elif answer.code == 0:
            told = f"its process ended with exit code 0, and its manifest says {standing}"
            self._over(job, "failed", f"{told}; its last words: {last_line(entry.path / LOG)}")
        elif self.stopping and answer.code in _STOPPED:
            self._over(job, "stopped", "")
        elif answer.code in _STOPPED:
            self._lost(job, "a signal asked it to stop")
        elif answer.code < 0:
            self._lost(job, f"its process was killed by signal {-answer.code}")
        else:
            self._over(job, "failed", f"exit code {answer.code}: {last_line(entry.path / LOG)}")

    def _lost(self, job: _Job, why: str) -> None:
        """Start it again, unless that was tried often enough and came to nothing."""
        newest = max((path.name for path in (job.plan.folder / "checkpoints").glob("step-*")), default="")
        job.lost = 1 if newest != job.newest else job.lost + 1
        job.newest = newest
        if self.stopping:
            self._over(job, "stopped", why)
        elif job.lost > self._options.retries:
            times = f"lost {job.lost} times without a new checkpoint (sweep.retries={self._options.retries})"
            self._over(job, "failed", f"{times}; last: {why}")
        else:
            self._over(job, "pending", f"lost: {why}")
            self._waiting.insert(0, job)
            self._surveyed = float("-inf")

    def _over(self, job: _Job, state: str, note: str) -> None:
        entry = job.entry
        self._given.remove(job)
        if entry.since is not None and entry.state == "running":
            entry.seconds += time.time() - entry.since
        entry.state, entry.note, job.answers = state, note, None
        self._changed(entry)

    def _stop(self) -> None:
        """Start nothing more; runs that have begun are asked by the file, those that have not are taken back."""
        self.stopping = True
        self._folder.stop_file.touch()
        for job in self._given:
            if job.entry.state != "running":
                ray.cancel(job.answers)

    def _changed(self, entry: Entry) -> None:
        self._folder.write(self._table)
        self._shown(entry)


@ray.remote(max_retries=0, num_returns="streaming", scheduling_strategy="SPREAD")
def _attempt(order: Order) -> Iterator[Started | Ended]:
    yield from attempt(order, ray.get_runtime_context().get_node_id())


def last_line(log: Path) -> str:
    """The last thing that a run said."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "it said nothing"


def _explain(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    if cause is not None:
        return str(cause)
    first, _, _ = " ".join(str(error).split()).partition(". ")  # Ray goes on with paragraphs of advice
    return f"{type(error).__name__}: {first}"[:200]
