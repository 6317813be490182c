"""Errors of environments that run; every error crosses process borders whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from unittest import mock


class EnvironmentFailure(RuntimeError):
    """A simulator raised, or gave a value that is not finite.

    Attributes:
        task: Name of the task.
        copy: Environment copy of the task.
        episode: Number of the episode in its stream.
        step: Steps taken in that episode before the failure.
        cause: The simulator's own error.
    """

    def __init__(self, task: str, copy: int, episode: int, step: int, cause: str) -> None:
        # All arguments go to the base class, so that pickle can build the error again from `args`.
        super().__init__(task, copy, episode, step, cause)
        self.task, self.copy, self.episode, self.step, self.cause = task, copy, episode, step, cause

    def __str__(self) -> str:
        where = f"copy {self.copy}, episode {self.episode}, step {self.step}"
        return f"task {self.task!r} failed ({where}): {self.cause}"


def reraise_a_signals(error: BaseException) -> None:
    """Raise the error again if the user's Ctrl-C or SIGTERM raised it in the midst of an environment's code.

    An environment may raise KeyboardInterrupt and SystemExit as well, and then it has failed. Handlers that tell the
    two apart mark what they raise by a `signal_number`. Where Python's own handler hears Ctrl-C, every
    KeyboardInterrupt may be the user's.
    """
    if hasattr(error, "signal_number"):
        raise error
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # as in Ray's processes
    if not blocked and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error


@contextmanager
def exits_raise() -> Iterator[None]:
    """Have `os._exit` raise SystemExit while an environment's code runs in this thread.

    It would end the process at once with the environment's exit code, and nobody could say what happened. A process
    that is forked meanwhile, and other threads, leave as they want.
    """
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def refuse(code: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            leave(code)
        raise SystemExit(code)

    with mock.patch.object(os, "_exit", refuse):
        yield


class NotDeterministicError(RuntimeError):
    """Replaying an episode did not arrive, to the bit, at the observation and return it had before.

    Such a task cannot be resumed or moved to another worker: its simulator keeps state over a reset, or draws
    from a generator that `reset(seed)` does not seed, or this machine computes other bits.
    """

    def __init__(self, task: str, copy: int, episode: int, steps: int) -> None:
        super().__init__(task, copy, episode, steps)
        self.task, self.copy, self.episode, self.steps = task, copy, episode, steps

    def __str__(self) -> str:
        return (
            f"task {self.task!r} is not deterministic after a reset: replaying {self.steps} steps of episode "
            f"{self.episode} (copy {self.copy}) gave another observation or return than before; "
            f"its reset(seed) must clear all state and seed everything random"
        )
