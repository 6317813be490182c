"""A whole sweep: from the words of `train -m` to the report."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mtrl_surgery.cli.command_line import read_flags, run_all
from mtrl_surgery.runs.console import say
from mtrl_surgery.runs.signals import StopSignals
from mtrl_surgery.shell import command, install, python
from mtrl_surgery.sweeps.folder import RAY_LOG, REPORT, Sweep, SweepFolder, SweepRun, place_of
from mtrl_surgery.sweeps.plan import (
    RunPlan,
    SweepOptions,
    SweepTarget,
    amount,
    check_capacity,
    cluster_nodes,
    make_plans,
    refuse_held,
    split,
    this_machine,
)
from mtrl_surgery.sweeps.standing import standing_of, status

if TYPE_CHECKING:
    from cluster.workers.session import RaySession

_STORE_MB = 100  # nothing but words travels through the object store


def run_or_sweep(target: SweepTarget, task: Callable[[DictConfig, Sequence[str]], object], words: Sequence[str]) -> int:
    """Do one run, or with `-m` many, or show a screen; see `sweep` and `run_all`."""
    line = read_flags(words)
    return sweep(target, line.words) if line.many and not line.screen else run_all(target.program, task, line)


def sweep(target: SweepTarget, words: Sequence[str]) -> int:
    """Do every run that the words beside `-m` make, and report on them.

    What is finished is left alone, what has begun goes on from its newest checkpoint; so the same words go on with a
    sweep that was stopped or broke.

    Returns:
        0 if all runs are done, 1 if one failed, 130 or 143 if the sweep was stopped before its end.

    Raises:
        SweepError, SettingsError: what was asked for makes no sense, or the cluster could never do it; before any work.
        SweepFailure: the cluster broke.
    """
    options, run_words = split(words)
    plans = make_plans(target, run_words, options)
    if options.address is None:
        check_capacity(plans, [this_machine()])
    folder = place_of([plan.folder for plan in plans], options.folder)
    report = options.report and importlib.util.find_spec("plotly") is not None
    if options.report and not report:
        say(f"note: there will be no report, which needs plotly: {install('report')}")
    with folder.driving():
        refuse_held(plans)
        waiting = [plan for plan in plans if standing_of(plan.folder).state != "done"]
        shares = [1.0 if plan not in waiting else plan.measure.share(plan.folder) for plan in plans]
        runs = [SweepRun(plan.label, plan.folder, plan.measure) for plan in plans]
        folder.write(Sweep([python(), *target.command, "-m", *words], os.getcwd(), time.time(), sum(shares), runs))
        begun = sum(0 < share < 1 for share in shares)
        needs = {f"{amount(one.cpus, one.gpus)} ({one.because})" for one in (plan.resources for plan in plans)}
        say(
            f"{folder.path}: {len(plans)} runs, {len(plans) - len(waiting)} of them done before, {begun} begun; "
            f"each takes {' or '.join(sorted(needs))}"
        )
        code = _do(folder, waiting, options) if waiting else 0
    say(status(folder))
    done = [run.folder for run in runs if standing_of(run.folder).state == "done"]
    if report and done:
        _report(target.module, folder, done)
    return code


def _do(folder: SweepFolder, plans: Sequence[RunPlan], options: SweepOptions) -> int:
    """Have Ray do the runs; the exit code."""
    session = _session(options)
    try:
        from mtrl_surgery.sweeps.scheduler import Scheduler  # imports Ray, which the session must be set up before

        if not options.wait_for_nodes:
            check_capacity(plans, cluster_nodes())
        scheduler = Scheduler(folder, plans, options, session)
        # Ray prints what its nodes log when they die; among the lines of the sweep that is no help.
        with open(folder.path / RAY_LOG, "a") as log, redirect_stdout(log), StopSignals() as signals:
            return scheduler.run(signals)
    finally:
        session.close()


def _session(options: SweepOptions) -> RaySession:
    from cluster.config import ClusterConfig
    from cluster.workers.session import RaySession
    from mtrl_surgery.devices import count_cores

    if options.address is None:
        return RaySession(ClusterConfig(kind="local", object_store_mb=_STORE_MB), count_cores())
    return RaySession(ClusterConfig(kind="ray", address=options.address), 0)


def _report(module: str, folder: SweepFolder, done: Sequence[Path]) -> None:
    """A process of its own: what goes wrong there is told, and changes nothing about the runs."""
    words = [f"out={folder.path / REPORT}", f"title=Sweep of {len(done)} runs", *map(str, done)]
    finished = subprocess.run([sys.executable, "-m", module, "report", *words], check=False)
    if finished.returncode:
        say(
            f"the runs are done, but there is no report (exit code {finished.returncode}); to make it later: "
            f"{command(module, 'report', *words)}"
        )
