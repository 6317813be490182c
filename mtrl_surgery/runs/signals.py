"""Ctrl-C and SIGTERM as a wish that the driver reads between two pieces of work."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ACTING: Mapping[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Interrupted(Exception):
    """A run was stopped by a signal, after it wrote a checkpoint.

    Attributes:
        signal: The signal's number.
        checkpoint: The checkpoint to resume from.
    """

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(signal_number, checkpoint)
        self.signal, self.checkpoint = signal_number, checkpoint

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signal).name}; the checkpoint is {self.checkpoint}"

    @property
    def exit_code(self) -> int:
        """What the shell expects: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class StopSignals:
    """While open, the first SIGINT or SIGTERM is only noted; a second one acts as it did before.

    Outside the main thread, where Python has no signals, it notes nothing.
    """

    def __init__(self) -> None:
        """Not open yet."""
        self.requested: int | None = None
        self._before: Mapping[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the old handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        for other, handler in self._before.items():
            # A shell starts background jobs with SIGINT ignored; who asks twice is to be heard all the same.
            ignored = handler is signal.SIG_IGN
            signal.signal(other, _ACTING[signal.Signals(other)] if ignored else handler)


@contextmanager
def exit_when_told() -> Iterator[None]:
    """Have a SIGTERM that no `StopSignals` notes raise SystemExit(143), so that all is closed on the way out.

    A second one ends the process at once. Outside the main thread, where Python has no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except BaseException:
        if told:  # within a call of Ray it has become a SystemExit(1), and what was cut off may complain
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
