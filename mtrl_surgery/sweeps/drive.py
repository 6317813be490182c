"""A whole sweep: from the words of `train -m` to the report."""

from __future__ import annotations

import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING

from mtrl_surgery.runs.console import say
from mtrl_surgery.runs.signals import StopSignals
from mtrl_surgery.shell import command, install, python
from mtrl_surgery.sweeps.display import Display
from mtrl_surgery.sweeps.errors import SweepError
from mtrl_surgery.sweeps.folder import RAY_LOG, REPORT, Entry, SweepFolder, Table, place_of
from mtrl_surgery.sweeps.options import SweepOptions, split
from mtrl_surgery.sweeps.plan import RunPlan, Trainee, make_plans, refuse_held, standing_of
from mtrl_surgery.sweeps.room import amount, check_room, cluster_nodes, this_machine
from mtrl_surgery.sweeps.view import failures

if TYPE_CHECKING:
    from cluster.workers.session import RaySession

_STORE_MB = 100  # nothing but words travels through the object store
_ASKED_TO_STOP = 143


def sweep(trainee: Trainee, words: Sequence[str]) -> int:
    """Do every run that the words make, and report on them.

    What is finished is left alone, what has begun goes on from its newest checkpoint; so the same words go on with a
    sweep that was stopped or broke.

    Returns:
        0 if all runs are done, 1 if one failed, 130 or 143 if the sweep was stopped before its end.

    Raises:
        SweepError, SettingsError: what was asked for makes no sense, or the cluster could never do it; before any work.
        SweepFailure: the cluster broke.
    """
    options, run_words = split(words)
    plans = make_plans(trainee, run_words, options)
    if options.address is None:
        check_room(plans, [this_machine()])
    folder = place_of(plans, options.folder)
    lacking = [package for package in ("plotly", "pandas") if importlib.util.find_spec(package) is None]
    if options.report and lacking:
        say(f"note: there will be no report, which needs {' and '.join(lacking)}: {install('report')}")
    with folder.driving():
        refuse_held(plans)
        table = _begin(trainee, words, plans, folder)
        display = Display(table)
        display.say(_headline(table, folder, plans))
        folder.write(table)
        stopped_by = _do(folder, table, plans, options, display) if table.count("pending") else None
        display.close()
    for line in failures(table):
        say(line)
    if options.report and not lacking and table.count("done"):
        _report(table, folder)
    if stopped_by is not None:
        say(f"{folder.path}: stopped; to go on: {shlex.join(table.command)}")
        return stopped_by
    return 1 if table.count("failed") else 0


def _begin(trainee: Trainee, words: Sequence[str], plans: Sequence[RunPlan], folder: SweepFolder) -> Table:
    """The table as the run folders tell it; of an older one it keeps what was spent."""
    try:
        spent = {entry.folder: entry for entry in folder.read().entries}
    except SweepError:
        spent = {}  # a new sweep, or a table that a broken disk left: the run folders tell more than it did
    entries = []
    for plan in plans:
        finished = standing_of(plan.folder) == "finished"
        entry = Entry(plan.label, str(plan.folder), list(plan.command), asdict(plan.measure))
        entry.state, entry.before = ("done", True) if finished else ("pending", False)
        if (known := spent.get(entry.folder)) is not None:
            entry.attempts, entry.seconds = known.attempts, known.seconds
        entries.append(entry)
    table = Table(
        command=[python(), *trainee.command, *words],
        cwd=os.getcwd(),
        entries=entries,
        driver=f"process {os.getpid()} on {socket.gethostname()}",
        started=time.time(),
    )
    table.work = sum(entry.share for entry in entries)
    table.status = "running" if table.count("pending") else "finished"
    return table


def _headline(table: Table, folder: SweepFolder, plans: Sequence[RunPlan]) -> str:
    needs = {f"{amount(plan.need.cpus, plan.need.gpus)} ({plan.need.because})" for plan in plans}
    going_on = sum(entry.state == "pending" and entry.share > 0 for entry in table.entries)
    return (
        f"{folder.path}: {len(plans)} runs, {table.count('done')} of them done before, {going_on} begun; "
        f"each takes {' or '.join(sorted(needs))}"
    )


def _do(folder: SweepFolder, table: Table, plans: list[RunPlan], options: SweepOptions, display: Display) -> int | None:
    """Have Ray do what is pending; the exit code of a sweep that was stopped."""
    session = _session(options)
    try:
        from mtrl_surgery.sweeps.scheduler import Scheduler  # imports Ray, which the session must be set up before

        if not options.wait_for_nodes:
            check_room(plans, cluster_nodes())
        table.started = time.time()
        scheduler = Scheduler(folder, table, plans, options, session, display.update)
        # Ray prints what its nodes log when they die; in the middle of a table that is no help.
        with open(folder.path / RAY_LOG, "a") as log, redirect_stdout(log), StopSignals() as signals:
            scheduler.run(signals)
        table.status = _status(table, scheduler.stopping)
    except BaseException:
        table.status = "failed"
        for entry in table.entries:
            if entry.state == "running":
                entry.state, entry.note, entry.since = "broken", "the sweep's driver ended", None
        raise
    finally:
        folder.write(table)
        session.close()
    if not scheduler.stopping or not table.count("pending", "stopped"):
        return None
    return 128 + signals.requested if signals.requested is not None else _ASKED_TO_STOP


def _session(options: SweepOptions) -> RaySession:
    from cluster.config import ClusterConfig
    from cluster.workers.session import RaySession
    from mtrl_surgery.devices import count_cores

    if options.address is None:
        return RaySession(ClusterConfig(kind="local", object_store_mb=_STORE_MB), count_cores())
    return RaySession(ClusterConfig(kind="ray", address=options.address), 0)


def _status(table: Table, stopping: bool) -> str:
    if stopping and table.count("pending", "stopped"):
        return "stopped"
    return "failed" if table.count("failed") else "finished"


def _report(table: Table, folder: SweepFolder) -> None:
    """A process of its own: what goes wrong there is told, and changes nothing about the runs."""
    done = [entry for entry in table.entries if entry.state == "done"]
    words = [f"out={folder.path / REPORT}", f"title=Sweep of {len(done)} runs", *(entry.folder for entry in done)]
    finished = subprocess.run([sys.executable, "-m", "mtrl_surgery", "report", *words], check=False)
    if finished.returncode:
        say(
            f"the runs are done, but there is no report (exit code {finished.returncode}); to make it later: "
            f"{command('mtrl_surgery', 'report', *words)}"
        )
