"""A toy run: every method from every start, each start by itself, shared out to processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments_vision.toy.config import ToySettings, validate
from experiments_vision.toy.descent import Descent, Path, descend, method_of
from experiments_vision.toy.measures import Arrival, Targets, arrivals, targets_of
from experiments_vision.toy.problems import Problem
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.runs.console import Progress

_FEW_STEPS = 20_000
"""So many take less time than a process needs to start."""
_SAME_ROUNDING = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}
"""Without fused products, which round one task's side of a sum and not the other's, and differ between processors."""


@dataclass(frozen=True)
class MethodRun:
    """One method's options, paths and arrivals, and the seconds of one core that they took."""

    config: MethodConfig
    descent: Descent
    arrivals: list[Arrival]
    seconds: float


@dataclass(frozen=True)
class ToyResult:
    """A finished run: a `MethodRun` for each method, and what those said that refuse the problem's losses."""

    settings: ToySettings
    problem: Problem
    targets: Targets
    runs: list[MethodRun]
    refused: dict[str, str]


_Job = tuple[ToySettings, MethodConfig, int]
"""The run's settings, a method and the number of a start: everything that a process must know."""
_Answer = tuple[Path, float] | str
"""A path and its seconds; or what the method has to say about such losses."""


def run_toy(settings: ToySettings) -> ToyResult:
    """Run the methods that the settings name, with the options that their configs hold.

    Raises:
        VisionError: for a value that makes no sense.
        MethodError: if the one method that was asked for refuses the problem's losses.
    """
    validate(settings)
    problem = Problem.of(settings)
    targets = targets_of(problem)
    configs, starts = settings.configs, range(len(settings.points))
    jobs = [(settings, config, start) for config in configs for start in starts]
    total = settings.num_steps * len(jobs)
    line = Progress(total, updates=None, measure=None, name=settings.run_name, silent_s=1.0)
    try:
        answers = _here(jobs, line) if total <= _FEW_STEPS else _in_processes(jobs, line)
    finally:
        line.close()
    runs, refused = [], {}
    for number, config in enumerate(configs):
        mine = answers[number * len(starts) : (number + 1) * len(starts)]
        done = [answer for answer in mine if not isinstance(answer, str)]
        said = [answer for answer in mine if isinstance(answer, str)]
        if said and len(configs) == 1:
            raise MethodError(f"problem={settings.problem}: {said[0]}")
        if said:
            refused[config.name] = said[0]
            continue
        descent = Descent.of([path for path, _ in done])
        arrived = arrivals(problem, descent, targets, settings.within)
        runs.append(MethodRun(config, descent, arrived, sum(seconds for _, seconds in done)))
    return ToyResult(settings, problem, targets, runs, refused)


def _do(job: _Job, progress: Callable[[int], None]) -> _Answer:
    settings, config, start = job
    begin = time.thread_time()
    start_P = np.array(settings.points[start])
    keys: dict[str, Any] = {"steps": settings.num_steps, "lr": settings.lr, "max_norm": settings.max_norm}
    try:
        method = method_of(config, start, settings.seed)
        path = descend(Problem.of(settings), start_P, method, progress=progress, **keys)
    except MethodError as error:
        return str(error)
    return path, time.thread_time() - begin


def _here(jobs: Sequence[_Job], line: Progress) -> list[_Answer]:
    done = 0

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        line.update(done)

    return [_do(job, count) for job in jobs]


def _in_processes(jobs: Sequence[_Job], line: Progress) -> list[_Answer]:
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    workers = min(jobs[0][0].workers or len(os.sched_getaffinity(0)), len(jobs))
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(done,)) as pool:
        with _environment(_SAME_ROUNDING):  # it is read as torch is loaded
            futures = [pool.submit(_work, job) for job in jobs]
        try:
            waiting = set(futures)
            while waiting:
                _, waiting = wait(waiting, timeout=0.25)
                line.update(done.value)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _environment(names: dict[str, str]) -> Iterator[None]:
    """Within the block, processes are started with these variables."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_done: Any = None  # in a worker process: the steps of all jobs that are done, shared by all


def _start_worker(done: Any) -> None:
    global _done
    _done = done
    torch.set_num_threads(1)  # the workers are the threads
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent was killed: else it would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: _Job) -> _Answer:
    def count(steps: int) -> None:
        with _done.get_lock():
            _done.value += steps

    return _do(job, count)
