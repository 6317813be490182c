"""How the learners' processes find each other: a store at one of them, and connections over one network interface."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of a network interface


class Rendezvous(NamedTuple):
    """Where the store listens."""

    host: str
    port: int


def open_store(host: str, size: int, timeout: float) -> tuple[TCPStore, Rendezvous]:
    """A store that listens at this address of ours only, on a free port.

    Args:
        host: An IPv4 address of this machine.
        size: Processes that will come.
        timeout: Seconds that they may take.
    """
    # The store itself would listen on every interface.
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = TCPStore(
        host,
        port,
        size,
        is_master=True,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return store, Rendezvous(host, port)


def join(
    rendezvous: Rendezvous, own_host: str, rank: int, size: int, backend: str, timeout: float, store: TCPStore | None
) -> dist.ProcessGroup:
    """Joins the group; returns when all are there.

    Args:
        rendezvous: Where the store is.
        own_host: The IPv4 address that the others reach this process at.
        rank: Of this process.
        size: Of the group.
        backend: `gloo` or `nccl`.
        timeout: Seconds that the others may be silent before an exchange fails.
        store: The store itself, in the process that opened it.
    """
    # Left alone, gloo takes the address that the machine's name has, on many machines one that only they can reach.
    os.environ["GLOO_SOCKET_IFNAME"] = interface_of(own_host)
    limit = timedelta(seconds=timeout)
    store = store or TCPStore(rendezvous.host, rendezvous.port, size, is_master=False, timeout=limit)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def interface_of(host: str) -> str:
    """The name of the network interface that has this IPv4 address.

    Raises:
        OSError: None has.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == host:
                return name
    raise OSError(f"no network interface has the address {host}")
