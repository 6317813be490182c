"""A cluster that every test finds as the first one did, whatever a test did to it: starting one anew takes long."""

from __future__ import annotations

import sys
import time

from benchmarks.chaos.nodes import LocalNodes

HEAD, OTHER = 2, 1  # CPUs of the head, and of the one other node
_PATIENCE = 30.0  # seconds that the workers of a run that ended may take to free their CPUs


class SharedNodes:
    """Starts a cluster for the first test, and another one only after a test whose cluster can't be mended."""

    def __init__(self) -> None:
        """No node is started yet."""
        self._nodes: LocalNodes | None = None

    def restored(self) -> LocalNodes:
        """A head and one other node, both of them with all of their CPUs free."""
        if self._nodes is not None and not (self._nodes.cpus(self._nodes.head)[1] == HEAD and _mend(self._nodes)):
            print("the cluster can't be mended; starting another one ...", file=sys.stderr)
            self.close()
        if self._nodes is None:
            self._nodes = LocalNodes(HEAD)
            if not _mend(self._nodes):
                raise RuntimeError("a new cluster has no CPUs to give")
        return self._nodes

    def close(self) -> None:
        """Stop all nodes."""
        if self._nodes is not None:
            nodes, self._nodes = self._nodes, None
            nodes.close()


def _mend(nodes: LocalNodes) -> bool:
    """Bring a cluster whose head takes work back to a head and one other node; whether that worked."""
    nodes.wake()
    for node in nodes.nodes[1:]:
        if len(nodes.nodes) > 2 or nodes.cpus(node)[1] != OTHER:
            nodes.remove(node)
    if len(nodes.nodes) == 1:
        nodes.add(OTHER)
    deadline = time.monotonic() + _PATIENCE
    while [nodes.cpus(node) for node in nodes.nodes] != [(HEAD, HEAD), (OTHER, OTHER)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
