"""How much of Ray's object store a run can have in use at once, and the refusal of a store that is too small."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.config import ClusterConfig, ClusterError
from cluster.training.collect import PENDING_EVALUATIONS
from envs.suite import TaskSuite

_SHARE = 0.8  # of a store; Ray spills to disk above it


def most_bytes(suite: TaskSuite, copies: int, chunk_steps: int, workers: int, weights_bytes: int) -> int:
    """An upper bound of the bytes in the object store of any one node.

    Every task has at most one chunk in flight and one that the driver holds; a chunk comes with the positions of its
    streams. Every worker may hold a version of the weights of its own, and so may every evaluation that waits.

    Args:
        suite: The tasks.
        copies: Environments a task.
        chunk_steps: Vector steps of a chunk.
        workers: Rollout workers.
        weights_bytes: Size of the policy's weights.
    """
    observation, action = suite.observation_dim, suite.action_dim
    transition = 4 * (2 * observation + action + 1) + 2  # float32, and two flags
    position = 4 * (suite.horizon * action + observation)
    chunk = copies * (chunk_steps * transition + position)
    return 2 * len(suite.tasks) * chunk + (workers + 2 + PENDING_EVALUATIONS) * weights_bytes


def check_store(needed: int, stores: Mapping[str, int], config: ClusterConfig) -> None:
    """Refuse a run whose chunks don't fit.

    Args:
        needed: What `most_bytes` says.
        stores: Bytes of the object store of each node, by its address.
        config: The options, for what to change.

    Raises:
        ClusterError: a node's store is too small; names the node, both sizes and the keys to change.
    """
    for node, size in stores.items():
        if needed > _SHARE * size:
            least = int(needed / _SHARE / 2**20) + 1
            remedy = (
                f"raise cluster.object_store_mb={config.object_store_mb} to {least}"
                if config.kind == "local"
                else f"start the node with `ray start --object-store-memory={least * 2**20}`"
            )
            raise ClusterError(
                f"chunks and weights on their way may take {needed / 2**20:,.0f} MB, more than {100 * _SHARE:.0f} % of "
                f"the {size / 2**20:,.0f} MB object store of node {node}: {remedy}, or lower "
                f"cluster.chunk_steps={config.chunk_steps} or env.copies"
            )
