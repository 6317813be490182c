"""Several Ray nodes on this machine, whose processes can be found and struck: for `bench chaos` and the fault tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray._raylet
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

_SYSTEM = {
    # A lost node is noticed within two seconds, not after Ray's half a minute; one on a busy machine isn't lost.
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 4000,
    "health_check_failure_threshold": 4,
    "health_check_initial_delay_ms": 0,
    "prestart_worker_first_driver": False,  # they would have another environment than rollout workers need
}


class LocalNodes:
    """A Ray cluster of raylets on the loopback interface; this process doesn't join it."""

    def __init__(self, cpus: int, store_mb: int = 100) -> None:
        """Start a head node with so many CPUs (Ray takes them as it's told, whatever the machine has)."""
        self._store = store_mb * 2**20
        self.wanted = 1  # nodes that there should be; `bench chaos` adds one only where one is missing
        head = {"num_cpus": cpus, "object_store_memory": self._store, "_system_config": _SYSTEM}
        self._cluster: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.head = self._cluster.head_node

    @property
    def address(self) -> str:
        """HOST:PORT for `cluster.address`."""
        return str(self._cluster.address)

    @property
    def nodes(self) -> list[Any]:
        """The nodes that live, the head first."""
        return [self.head, *self._cluster.worker_nodes]

    def add(self, cpus: int = 1) -> Any:
        """A new node."""
        node = _patiently(lambda: self._cluster.add_node(num_cpus=cpus, object_store_memory=self._store))
        self._cluster.wait_for_nodes()
        return node

    def remove(self, node: Any) -> None:
        """Kill a node's raylet, which takes its workers with it, as a machine that vanishes does."""
        self._cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: float) -> None:
        """Tell a node that it goes in so many seconds, as a cloud tells of a preemption."""
        raylet: Any = ray._raylet  # these two have no types
        reasons: Any = autoscaler_pb2
        reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int(1000 * (time.time() + seconds))
        taken, why = raylet.GcsClient(self.address).drain_node(node.node_id, reason, "spot machine", deadline)
        if not taken:
            raise RuntimeError(f"node {node.node_id} can't be drained: {why}")

    def cpus(self, node: Any) -> tuple[float, float]:
        """CPUs that a node can give now, and when nobody has one; none if it has died or is told to go."""
        state = self._cluster.global_state  # asks the head, which must live
        if not (self.head.remaining_processes_alive() and node.remaining_processes_alive()):
            return 0.0, 0.0
        if node.node_id in state.get_draining_nodes():
            return 0.0, 0.0
        free, whole = state.available_resources_per_node(), state.total_resources_per_node()
        return free.get(node.node_id, {}).get("CPU", 0.0), whole.get(node.node_id, {}).get("CPU", 0.0)

    def workers(self, node: Any, title: str = "ray::RolloutWorker") -> list[int]:
        """The processes of a node's actors of one class, by the title that Ray gives them."""
        (raylet,) = node.all_processes["raylet"]
        children = Path(f"/proc/{raylet.process.pid}/task/{raylet.process.pid}/children")
        return [
            pid for pid in map(int, _read(children).split()) if _read(Path(f"/proc/{pid}/cmdline")).startswith(title)
        ]

    def all_workers(self, title: str = "ray::RolloutWorker") -> list[int]:
        """Those of all nodes."""
        return [pid for node in self.nodes for pid in self.workers(node, title)]

    def wake(self) -> None:
        """Have workers that were stopped by a signal go on; they couldn't end by themselves."""
        for node in self.nodes:
            if "raylet" in node.all_processes:
                for pid in self.workers(node, "ray::"):
                    strike(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop all nodes."""
        self.wake()
        self._cluster.shutdown()


def strike(pid: int, number: signal.Signals) -> bool:
    """Send a signal; whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives its own processes 30 s to start, which a busy machine may need twice."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return start()
    except Exception as error:  # Ray raises no narrower one
        print(f"a node did not start ({error}); trying once more ...", file=sys.stderr)
        return start()
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray has this process stop the node, and raise SystemExit wherever it is


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # a process that ended a moment ago
