"""The processes of one run: `torchrun` starts several, and each has a share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process's place among all; rank 0 leads: it evaluates, and writes the run folder."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True for the process that evaluates and writes."""
        return self.rank == 0

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The processes as `Surgery` wants them; None for one alone."""
        return dist.group.WORLD if self.size > 1 else None

    def any(self, flag: bool, device: torch.device) -> bool:
        """True if the flag is set in any process. Alone it costs nothing."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag), device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def broadcast(self, value: torch.Tensor) -> None:
        """The leader's value, in place, to all."""
        if self.size > 1:
            dist.broadcast(value, src=0)

    def average(self, value: torch.Tensor) -> None:
        """The mean over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size


def launched_size() -> int:
    """The number of processes that `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Meet the processes that `torchrun` started, if it did, until the end of the block."""
    if launched_size() == 1:
        yield World()
        return
    # What the processes tell each other beside gradients travels between CPUs: no step waits for a GPU because of it.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def local_device(device: str) -> str:
    """`cuda` for one of several processes is the GPU of its own."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and launched_size() > 1 else device
