"""Has Ray do the runs: starts them where there is room, hears how they end, and starts again what was lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError, TaskCancelledError

from cluster.workers.session import RaySession
from mtrl_surgery.runs.console import duration, say
from mtrl_surgery.runs.folder import LOG
from mtrl_surgery.runs.manifest import now
from mtrl_surgery.runs.signals import StopSignals
from mtrl_surgery.sweeps.attempt import Ended, Order, Started, attempt
from mtrl_surgery.sweeps.folder import SweepFolder
from mtrl_surgery.sweeps.plan import Node, RunPlan, SweepOptions, cluster_nodes, fits
from mtrl_surgery.sweeps.standing import last_line, standing_of

_POLL = 0.5  # seconds between two looks at signals and the stop file
_SURVEY = 2.0  # seconds between two looks at the cluster's nodes
_ASKED_TO_STOP = 143
_STOPPED = (130, _ASKED_TO_STOP)  # exit codes of a run that wrote its checkpoint because a signal asked it to


@dataclass
class _Job:
    """A run that Ray was given or will be."""

    plan: RunPlan
    answers: Any = None  # of its task: `Started`, then `Ended`
    attempts: int = 0  # processes that were started for it
    since: float | None = None  # when the last of them came; None while none is there
    seconds: float = 0.0  # that those before it took
    lost: int = 0  # times in a row that it was lost without a new checkpoint
    newest: str = ""  # its newest checkpoint when it was lost last


class Scheduler:
    """One sweep, from its first run to its last; it says a line for whatever happens to a run."""

    def __init__(
        self, folder: SweepFolder, plans: Sequence[RunPlan], options: SweepOptions, session: RaySession
    ) -> None:
        """Start nothing yet; the connection to Ray is the caller's to close."""
        self._folder, self._options, self._session = folder, options, session
        self._waiting = [_Job(plan) for plan in plans]
        self._given: list[_Job] = []
        self._nodes: list[Node] = []
        self._surveyed = float("-inf")
        self._stopping = False
        self._failed = self._stopped = 0

    def run(self, signals: StopSignals) -> int:
        """Until every run is over, or until it is asked to stop and all that ran have ended.

        Returns:
            The sweep's exit code: 0 all are done, 1 one failed, 130 or 143 it was stopped before its end.

        Raises:
            SweepFailure: the cluster's head node does not answer.
        """
        while True:
            if not self._stopping and (signals.requested is not None or self._folder.stop_file.exists()):
                self._stop()
            if time.monotonic() - self._surveyed >= _SURVEY:
                self._surveyed, self._nodes = time.monotonic(), cluster_nodes()
            self._give()
            if not self._given:
                break
            self._listen()
        if self._stopping and (self._waiting or self._stopped):
            return _ASKED_TO_STOP if signals.requested is None else 128 + signals.requested
        return 1 if self._failed else 0

    def _give(self) -> None:
        """Hand Ray the runs that there is room for, and one at least: an autoscaler takes it for demand."""
        limit = self._options.max_failures
        if self._stopping or (limit is not None and self._failed >= limit):
            return
        while self._waiting and (self._options.parallel is None or len(self._given) < self._options.parallel):
            job = self._waiting[0]
            if self._given and not fits(
                (other.plan.resources for other in self._given), job.plan.resources, self._nodes
            ):
                return
            self._given.append(self._waiting.pop(0))
            job.answers = self._submit(job.plan)

    def _submit(self, plan: RunPlan) -> Any:
        takes = plan.resources
        joined = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address} if takes.joins else {}
        order = Order(plan.command, str(plan.folder), str(self._folder.path), os.getcwd(), joined)
        task = _attempt.options(
            name=f"sweep: {plan.label}",
            num_cpus=takes.cpus,
            num_gpus=takes.gpus,
            runtime_env=self._session.worker_environment(max(1, int(takes.cpus))),
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
        plan = job.plan
        if isinstance(answer, Started):
            job.attempts, job.since = job.attempts + 1, time.time()
            again = f", attempt {job.attempts}" if job.attempts > 1 else ""
            say(f"running  {plan.label}  (on {answer.host}{again}, from {plan.measure.progress(plan.folder)})")
        elif answer.code == 0 and (state := standing_of(plan.folder).state) == "done":
            self._over(job, "done", "")
        elif answer.code == 0:
            told = f"its process ended with exit code 0, and its manifest says {state}"
            self._over(job, "failed", f"{told}; its last words: {last_line(plan.folder / LOG)}")
        elif self._stopping and answer.code in _STOPPED:
            self._over(job, "stopped", "")
        elif answer.code in _STOPPED:
            self._lost(job, "a signal asked it to stop")
        elif answer.code < 0:
            self._lost(job, f"its process was killed by signal {-answer.code}")
        else:
            self._over(job, "failed", f"exit code {answer.code}: {last_line(plan.folder / LOG)}")

    def _lost(self, job: _Job, why: str) -> None:
        """Start it again, unless that was tried often enough and came to nothing."""
        newest = max((path.name for path in (job.plan.folder / "checkpoints").glob("step-*")), default="")
        job.lost = 1 if newest != job.newest else job.lost + 1
        job.newest = newest
        if self._stopping:
            self._over(job, "stopped", why)
        elif job.lost > self._options.retries:
            times = f"lost {job.lost} times without a new checkpoint (sweep.retries={self._options.retries})"
            self._over(job, "failed", f"{times}; last: {why}")
        else:
            self._over(job, "pending", f"lost: {why}")
            self._waiting.insert(0, job)
            self._surveyed = float("-inf")

    def _over(self, job: _Job, state: str, note: str) -> None:
        """An attempt is over; what its process could not say itself goes to the run's log."""
        self._given.remove(job)
        self._failed += state == "failed"
        self._stopped += state in ("stopped", "pending") and self._stopping
        if job.since is not None:
            job.seconds += time.time() - job.since
        plan, job.answers, job.since = job.plan, None, None
        say(f"{state:<8} {plan.label}  {duration(job.seconds)}  {note}".rstrip())
        if note:
            plan.folder.mkdir(parents=True, exist_ok=True)
            with open(plan.folder / LOG, "a") as log:
                log.write(f"=== {now()} {state}: {note}\n")

    def _stop(self) -> None:
        """Start nothing more; runs that have begun are asked by the file, those that have not are taken back."""
        self._stopping = True
        self._folder.stop_file.touch()
        for job in self._given:
            if job.since is None:
                ray.cancel(job.answers)


@ray.remote(max_retries=0, num_returns="streaming", scheduling_strategy="SPREAD")
def _attempt(order: Order) -> Iterator[Started | Ended]:
    yield from attempt(order, ray.get_runtime_context().get_node_id())


def _explain(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    if cause is not None:
        return str(cause)
    first, _, _ = " ".join(str(error).split()).partition(". ")  # Ray goes on with paragraphs of advice
    return f"{type(error).__name__}: {first}"[:200]
