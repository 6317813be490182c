"""What a Ray task does: one run's process, watched until it ends or is asked to."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.runs.folder import LOG
from mtrl_surgery.runs.manifest import now
from mtrl_surgery.sweeps import SweepError
from mtrl_surgery.sweeps.folder import RECORD, STOP

GUARD = Path(__file__).with_name("die_with_parent.py")
_POLL = 0.25  # seconds
_LOCK_WAIT = 60.0  # seconds that the last attempt's process may take to die


@dataclass(frozen=True)
class Order:
    """A run to do, in a folder of its own: the words after the interpreter's name, and variables besides Ray's."""

    command: tuple[str, ...]
    folder: str
    sweep: str
    cwd: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """The run's process is there."""

    host: str
    pid: int


@dataclass(frozen=True)
class Ended:
    """The run's process ended with an exit code; a negative one is the signal that killed it."""

    code: int


def attempt(order: Order, node: str = "") -> Iterator[Started | Ended]:
    """Start the run's process and wait for its end; a file called `stop` in the sweep's folder asks it to stop.

    The process has a group of its own, writes its output to the run's log, and dies with the process that calls this.

    Args:
        order: The run.
        node: The id of this node in the cluster, for the log.

    Raises:
        SweepError: the node does not see the sweep's folders, or another process keeps writing the run's.
    """
    folder, stop, host = Path(order.folder), Path(order.sweep) / STOP, socket.gethostname()
    for path in (Path(order.cwd), Path(order.sweep) / RECORD):
        if not path.exists():
            raise SweepError(
                f"{host} does not have {path}: on several machines, the folder that the sweep is started in and out= "
                f"must lie on a disk that all of them see under the same path"
            )
    folder.mkdir(parents=True, exist_ok=True)
    _wait_until_free(folder)
    command = [sys.executable, *order.command]
    with open(folder / LOG, "ab") as log:
        log.write(f"=== {now()} on {host} {node}: {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-I", str(GUARD), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=order.cwd,
            env=os.environ | order.environment,
            start_new_session=True,
        )
    try:
        yield Started(host, process.pid)
        asked = False
        while process.poll() is None:
            if not asked and stop.exists():
                # To the run alone: a Ray of its own in its group must live until the checkpoint is written.
                process.terminate()
                asked = True
            time.sleep(_POLL)
        yield Ended(process.returncode)
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_free(folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_WAIT
    while (holder := held_by(folder)) is not None:
        if time.monotonic() > deadline:
            raise SweepError(f"{folder} is still being written by {holder} after {_LOCK_WAIT:.0f} s")
        time.sleep(_POLL)
