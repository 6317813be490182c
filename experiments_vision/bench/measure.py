"""Time and memory of steps that take turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


def take_turns(
    steps: Mapping[str, Step], reset: Step, rounds: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Seconds of every step in every round, after one round that does not count.

    On a CPU they are the process's CPU time, all threads together, which other processes do not lengthen much; on a
    GPU they are wall time until it is done. Turns, not blocks: a machine that slows down slows every step alike.

    Args:
        steps: What to time, by name.
        reset: Called before each, outside of its time.
        rounds: Timed rounds, at most.
        seconds: No round but the first starts later than this.
        device: Where they run.
    """
    laps: dict[str, list[float]] = {name: [] for name in steps}
    begun = time.perf_counter()
    for index in range(rounds + 1):
        if index > 1 and time.perf_counter() - begun > seconds:
            break
        for name, step in steps.items():
            reset()
            started = _now(device)
            step()
            lap = _now(device) - started
            if index:
                laps[name].append(lap)
            print(f"round {index}: {name} {lap:.2f} s", file=sys.stderr)
    reset()
    return laps


def peak_bytes(step: Step, device: str) -> int:
    """The most that a step holds at once on the device, above what was there before it.

    On a CPU the profiler's list of what torch's allocator gave and took back is added up, in its order: exact for
    tensors and for scratch space that torch allocates, blind to what MKL and oneDNN allocate by themselves. On a GPU it
    is what torch's caching allocator handed out.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    results = seen.profiler.kineto_results if seen.profiler is not None else None
    assert results is not None
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
