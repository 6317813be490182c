"""A toy run: one method or all of ours from all starts, shared out to processes where that is faster."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments_vision.toy.config import ToySettings, validate
from experiments_vision.toy.descent import Descent, descend
from experiments_vision.toy.guides import asks_once, guide_for
from experiments_vision.toy.measures import Arrival, arrivals
from experiments_vision.toy.problems import Problem
from experiments_vision.toy.progress import Line
from experiments_vision.toy.targets import Targets, targets_of
from mtrl_surgery.methods.config import MethodConfig, MethodError

_WORTH_A_PROCESS = 20_000  # calls of a method: what a process does in the time that it takes to start


@dataclass(frozen=True)
class MethodRun:
    """What one method did.

    Attributes:
        config: Its options.
        descent: Where the starts went.
        arrivals: When they came to stay, one for each start.
        seconds: Of one core.
    """

    config: MethodConfig
    descent: Descent
    arrivals: list[Arrival]
    seconds: float


@dataclass(frozen=True)
class ToyResult:
    """A finished run.

    Attributes:
        settings: What was asked for.
        problem: Its losses.
        targets: Where the starts should end.
        runs: A method each.
        refused: Methods that the problem's losses are out of range for, with what they said.
    """

    settings: ToySettings
    problem: Problem
    targets: Targets
    runs: list[MethodRun]
    refused: dict[str, str]


@dataclass(frozen=True)
class _Job:
    """Some starts of one method; everything that a process must know."""

    settings: ToySettings
    config: MethodConfig
    starts: tuple[int, ...]


_Answer = tuple[Descent, float] | str


def run_toy(settings: ToySettings) -> ToyResult:
    """Runs the methods; all of them with the options that their configs hold.

    Args:
        settings: See there; `method` None is every method of ours.

    Raises:
        VisionError: for a value that makes no sense.
        MethodError: if the one method that was asked for refuses the problem's losses.
    """
    validate(settings)
    problem = Problem.of(settings)
    targets = targets_of(problem)
    configs = settings.configs
    workers = _workers(settings, configs)
    shares = [_share(len(settings.points), workers if len(configs) == 1 else 1)] * len(configs)
    jobs = [_Job(settings, config, part) for config, parts in zip(configs, shares, strict=True) for part in parts]
    answers = _answers(jobs, workers, Line(settings.run_name, settings.num_steps * len(jobs)))
    runs, refused = [], {}
    for config in configs:
        mine = [answer for job, answer in zip(jobs, answers, strict=True) if job.config is config]
        said = [answer for answer in mine if isinstance(answer, str)]
        if said and len(configs) == 1:
            raise MethodError(f"problem={settings.problem}: {said[0]}")
        if said:
            refused[config.name] = said[0]
            continue
        done = [answer for answer in mine if not isinstance(answer, str)]
        descent = _joined([descent for descent, _ in done])
        seconds = sum(spent for _, spent in done)
        runs.append(MethodRun(config, descent, arrivals(problem, descent, targets, settings.within), seconds))
    return ToyResult(settings, problem, targets, runs, refused)


def _workers(settings: ToySettings, configs: Sequence[MethodConfig]) -> int:
    starts = len(settings.points)
    parts = starts if len(configs) == 1 else len(configs)
    if settings.workers is not None:
        return min(settings.workers, parts)
    calls = [1 if asks_once(config) else starts for config in configs]
    if calls == [1]:
        return 1  # a part of the starts would take as long as all
    work = settings.num_steps * sum(calls)
    return max(1, min(len(os.sched_getaffinity(0)), parts, work // _WORTH_A_PROCESS))


def _share(count: int, parts: int) -> list[tuple[int, ...]]:
    return [tuple(int(start) for start in part) for part in np.array_split(np.arange(count), min(parts, count))]


def _joined(parts: Sequence[Descent]) -> Descent:
    return Descent(
        np.concatenate([part.theta_TSP for part in parts], axis=1),
        np.concatenate([part.weights_TSK for part in parts], axis=1),
        tuple(stop for part in parts for stop in part.stopped_S),
    )


def _do(job: _Job, progress: Callable[[int], None]) -> _Answer:
    """A descent and its seconds; or what the method has to say about such losses."""
    settings, begin = job.settings, time.thread_time()
    starts_SP = np.array([settings.points[start] for start in job.starts])
    try:
        guide = guide_for(job.config, job.starts, settings.seed)
        descent = descend(
            Problem.of(settings), starts_SP, guide,
            steps=settings.num_steps, lr=settings.lr, max_norm=settings.max_norm, progress=progress,
        )  # fmt: skip
    except MethodError as error:
        return str(error)
    return descent, time.thread_time() - begin


def _answers(jobs: Sequence[_Job], workers: int, line: Line) -> list[_Answer]:
    try:
        if workers == 1:
            answers: list[_Answer] = []
            for number, job in enumerate(jobs):
                before = number * job.settings.num_steps
                answers.append(_do(job, lambda step, b=before, name=job.config.name: line.update(b + step, name)))  # type: ignore[misc]
            return answers
        return _from_processes(jobs, workers, line)
    finally:
        line.close()


_done_J: Any = None  # in a worker process: the steps that every job has done, shared by all


def _start_worker(done_J: Any) -> None:
    global _done_J
    _done_J = done_J
    torch.set_num_threads(1)  # the workers are the threads
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(number: int, job: _Job) -> _Answer:
    def progress(step: int) -> None:
        _done_J[number] = step

    return _do(job, progress)


def _from_processes(jobs: Sequence[_Job], workers: int, line: Line) -> list[_Answer]:
    context = multiprocessing.get_context("spawn")
    done_J = context.Array("q", len(jobs), lock=False)
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(done_J,)) as pool:
        futures: list[Future[_Answer]] = [pool.submit(_work, number, job) for number, job in enumerate(jobs)]
        try:
            open_futures = set(futures)
            while open_futures:
                _, open_futures = wait(open_futures, timeout=0.25)
                line.update(sum(done_J), f"{workers} processes")
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
