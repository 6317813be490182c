"""The end of a run: Ctrl-C and SIGTERM as a wish, and what its manifest says in the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from mtrl_surgery.runs.folder import RunFolder


_ACTING: Mapping[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""The signals that ask for an end, with Python's own handlers."""


class _Told:
    """An exception that a signal raised; the same exception from somebody else's code has no `signal_number`."""

    def __init__(self, *arguments: object, signal_number: int) -> None:
        super().__init__(*arguments)
        self.signal_number = signal_number


class TerminatedBySignal(_Told, SystemExit):
    """SIGTERM came."""


class InterruptedBySignal(_Told, KeyboardInterrupt):
    """Ctrl-C came."""


def asked_to_end(error: BaseException) -> bool:
    """Whether the user asked a run to end, by a signal; an exit that nobody asked for is a failure."""
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True  # no handler of ours tells Ctrl-C from what code may raise by itself
    return isinstance(error, Interrupted | _Told)


class Interrupted(Exception):
    """A run was stopped by a signal, after it wrote the checkpoint to resume from."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(signal_number, checkpoint)
        self.signal, self.checkpoint = signal_number, checkpoint

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signal).name}; the checkpoint is {self.checkpoint}"

    @property
    def exit_code(self) -> int:
        """As the shell expects it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class StopSignals:
    """While open, the first SIGINT or SIGTERM is only noted; a second one acts as it did before.

    Outside the main thread, where Python has no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: Mapping[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _ACTING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        for other, handler in self._before.items():
            # A shell starts background jobs with SIGINT ignored; a second request counts all the same.
            ignored = handler is signal.SIG_IGN
            signal.signal(other, _ACTING[signal.Signals(other)] if ignored else handler)


@contextmanager
def exit_when_told() -> Iterator[None]:
    """Have a signal that no `StopSignals` notes raise an exception of its own, so that all is closed on the way out.

    SIGTERM raises `TerminatedBySignal`, which is SystemExit(143), and Ctrl-C `InterruptedBySignal`. A second SIGTERM
    ends the process at once. Outside the main thread, where Python has no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told: list[int] = []

    def raise_(number: int) -> NoReturn:
        if number == signal.SIGINT:
            raise InterruptedBySignal(signal_number=number)
        raise TerminatedBySignal(128 + number, signal_number=number)

    def leave(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
        raise_(number)

    # A shell starts background jobs with SIGINT ignored; that stays.
    numbers = [number for number in _ACTING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    except BaseException as error:
        if not told or isinstance(error, Interrupted):
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:  # the interrupted code may have hidden why: within a call of Ray it becomes a SystemExit(1)
        raise_(told[-1])


def end(run: RunFolder, error: BaseException | None) -> None:
    """Note in the manifest how a run ended: finished (no error), interrupted by the user's signal, or failed."""
    if error is None or asked_to_end(error):
        run.finish("finished" if error is None else "interrupted")
        return
    kind, text = type(error), str(error)
    run.finish("failed", text if text and kind.__module__ != "builtins" else f"{kind.__name__}: {text}")


def finish(run: RunFolder | None, error: BaseException | None, steps: Sequence[Callable[[], object]]) -> None:
    """Do every step, whatever becomes of the others, then note in the manifest how the run ended.

    Args:
        run: Open for writing; None where another process writes.
        error: The error that ended the run, if one did; a further error here is only its consequence.
        steps: They save and close.

    Raises:
        BaseException: nothing was wrong before, and a step or the manifest was the first thing to fail.
    """
    first = error
    for step in steps:
        try:
            step()
        except BaseException as late:
            first = first or late
    try:
        if run is not None:
            end(run, first)
    except Exception as late:
        first = first or late
    if first is not None and error is None:
        raise first
