"""Shared by the benchmarks: checks, taking turns, and the file of results."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.runs.manifest import session

LEAST_ROUNDS = 3  # of a time budget, however small


def at_least_one(key: str, value: int) -> None:
    """Raise SettingsError for a count below one."""
    if value < 1:
        raise SettingsError(f"{key}={value} must be at least 1")


def take_turns(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int,
    device: str,
    seconds: float = math.inf,
    *,
    before: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, list[float]]:
    """Milliseconds of every step in every round.

    Turns, not blocks: a machine that slows down in between slows every step alike.

    Args:
        steps: Each is timed, by name.
        rounds: Timed rounds, at most.
        warmup: Rounds before them: the first steps allocate, and compile kernels.
        device: Waited for at the end of each step.
        seconds: No round starts later than this, warm-up included, but for the first `LEAST_ROUNDS`.
        before: Called before each step, outside of its time.
        clock: Seconds; `time.process_time` counts the CPU time of all threads, which other processes lengthen less.
        say: Told what each timed step took.
    """

    def timed(step: Callable[[], object]) -> float:
        before()
        started = clock()
        step()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return 1e3 * (clock() - started)

    begun = time.perf_counter()
    for _ in range(warmup):
        for step in steps.values():
            timed(step)
    laps: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds):
        if index >= LEAST_ROUNDS and time.perf_counter() - begun > seconds:
            break
        for name, step in steps.items():
            laps[name].append(timed(step))
            say(f"round {index + 1} of {rounds}: {name} {laps[name][-1] / 1e3:.2f} s")
    return laps


@dataclass(frozen=True)
class Beside:
    """Medians over the rounds of what `beside` timed, by step.

    Attributes:
        reference: Milliseconds of the reference.
        milliseconds: Of each step.
        ratio: Of each step to the mean of the references right before and after it.
        rounds: How many were timed.
    """

    reference: float
    milliseconds: dict[str, float]
    ratio: dict[str, float]
    rounds: int


def beside(
    reference: Callable[[], object],
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int,
    device: str,
    seconds: float = math.inf,
    each: Mapping[str, int] | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Beside:
    """Time steps as ratios to a reference that runs before and after every one of them.

    A round of many steps takes seconds, in which a machine slows down and speeds up; its nearest neighbours do so
    with it.

    Args:
        reference: All are compared with it.
        steps: Each is timed, by name.
        rounds: As of `take_turns`.
        warmup: As of `take_turns`.
        device: As of `take_turns`.
        seconds: As of `take_turns`.
        each: How many updates one step of a name makes, if not one; its time is that of one of them.
        clock: As of `take_turns`.
    """
    updates = {name: (each or {}).get(name, 1) for name in steps}
    turns: dict[str, Callable[[], object]] = {_before(0): reference}
    for place, (name, step) in enumerate(steps.items(), start=1):
        turns |= {name: step, _before(place): reference}
    laps = take_turns(turns, rounds, warmup, device, seconds, clock=clock)
    references = [laps[_before(place)] for place in range(len(steps) + 1)]
    ratio = {
        name: statistics.median(
            2 * own / (before + after) / updates[name]
            for own, before, after in zip(laps[name], references[place], references[place + 1], strict=True)
        )
        for place, name in enumerate(steps)
    }
    medians = {name: statistics.median(laps[name]) / updates[name] for name in steps}
    return Beside(statistics.median(chain.from_iterable(references)), medians, ratio, len(references[0]))


def _before(place: int) -> str:
    return f"reference {place}"


def peak_bytes(step: Callable[[], object], device: str) -> int:
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


def write_results(path: Path, arguments: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write the results with the options and the machine's facts as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {key: value for key, value in arguments.items() if key not in ("out", "json", "csv")}
    path.write_text(json.dumps({"arguments": options, "results": results, "session": session()}, indent=2) + os.linesep)
    print(f"written to {path}")
