"""Turning `device=auto` and `threads=null` into what this machine has."""

from __future__ import annotations

import os

import torch

from mtrl_surgery.cli.schema import SettingsError


def resolve_device(device: str) -> str:
    """The device to use: `auto` is CUDA where there is one.

    Raises:
        SettingsError: CUDA is asked for and not there, or the name is no device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise SettingsError(f"unknown device '{device}'; choices: auto, cpu, cuda, cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise SettingsError(
                f"device={device}: this torch ({torch.__version__}) finds no CUDA device; choices: cpu, auto"
            )
        if index and int(index) >= count:
            raise SettingsError(f"device={device}: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}")
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
