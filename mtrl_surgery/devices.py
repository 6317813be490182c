"""The device, cores and memory of this machine. Only what asks torch imports it, which takes a second."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class DeviceError(ValueError):
    """The machine has no such device, or no room; the message names the setting and the choices."""


def resolve_device(device: str) -> str:
    """The device to use: `auto` is CUDA where there is one.

    Raises:
        DeviceError: CUDA is asked for and not there, or the name is no device.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise DeviceError(f"unknown device '{device}'; choices: auto, cpu, cuda, cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(
                f"device={device}: this torch ({torch.__version__}) finds no CUDA device; choices: cpu, auto"
            )
        if index and int(index) >= count:
            raise DeviceError(f"device={device}: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}")
    return device


LARGE_UPDATE = 2e9  # floating-point operations of an update from which one core holds the whole run up


def resolve_threads(threads: int | None, update_flops: float = 0.0) -> int:
    """CPU threads of the learner, unless told.

    A small update leaves half the cores to the rollout workers. Where an update takes long (MT10's: 14 GFLOP), the
    workers wait for the learner nearly all the time, so it may have every core.
    """
    if threads is not None:
        return threads
    return count_cores() if update_flops >= LARGE_UPDATE else max(1, count_cores() // 2)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: str) -> int:
    """Bytes that a process can still take: of the GPU, or of this machine and the group that the process is in."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))]
    with suppress(OSError, ValueError):  # no group, or one without a limit
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(free)


def check_memory(needed: Mapping[str, int], device: str) -> None:
    """Refuse what has no room.

    Args:
        needed: Bytes, by the setting that they come from.
        device: Where.

    Raises:
        DeviceError: Names the setting that takes most, all it takes together, and what is free.
    """
    total, free = sum(needed.values()), free_memory(device)
    if total > free:
        most = max(needed, key=lambda setting: needed[setting])
        where = f"on {device}" if device.startswith("cuda") else "on this machine"
        raise DeviceError(
            f"{most}: takes {needed[most] / 1e9:,.1f} GB of memory, the whole run about {total / 1e9:,.1f} GB, and "
            f"{free / 1e9:,.1f} GB are free {where}"
        )
