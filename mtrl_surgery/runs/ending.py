"""The end of a run: everything is closed, and the manifest tells the first thing that went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.signals import asked_to_end


def end(run: RunFolder, error: BaseException | None) -> None:
    """Note in the manifest how a run ended: finished, interrupted by the user's signal, or failed by an error.

    Args:
        run: Open for writing.
        error: The error that ended it; None if it finished.
    """
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
