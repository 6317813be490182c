"""Joining a cluster that others started: two nodes, and a driver that shares no import path with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

NODES = """
import json, os, subprocess, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
done = subprocess.run([sys.executable, "-c", sys.argv[1], cluster.address], capture_output=True, text=True)
sys.stderr.write(done.stderr)
cluster.shutdown()
print(done.stdout)
"""

DRIVER = """
import json, sys
sys.path.insert(0, {repository!r})  # by hand: the nodes know nothing of it
from functools import partial
from agents.config import AgentConfig
from agents.policy import Policy
from agents.problem import Problem
from cluster.assembly import make_collector
from cluster.training.collect import ChunkOrder, CollectSpec
from cluster.config import ClusterConfig
from envs.config import EnvConfig
from envs.rollout import merge_chunks
from envs.build import build_suite

suite = build_suite(EnvConfig(kind="gymnasium", tasks=["Pendulum-v1", "MountainCarContinuous-v0"], horizon=20))
problem = Problem(suite.tasks, suite.observation_dim, suite.action_dim, suite.action_mask_KA)
spec = CollectSpec(suite, 1, 0, partial(Policy, problem, AgentConfig(hidden_sizes=[8])))
answers = []
for config in (ClusterConfig(kind="ray", address=sys.argv[1], workers=2), ClusterConfig(kind="inline")):
    collector = make_collector(spec, config)
    collector.start(None)
    collector.submit(ChunkOrder(0, 30, 0, None), [0, 1])
    received = [collector.receive() for _ in range(2 if config.kind == "ray" else 1)]
    answers.append(merge_chunks([one.chunk for one in received]).next_obs_KTNO.tobytes())
    if config.kind == "ray":
        import ray
        from ray._private.state import actors
        nodes = len({{actor["Address"]["NodeID"] for actor in actors().values()}})
    collector.close()
print(json.dumps({{"same": answers[0] == answers[1], "nodes": nodes}}))
"""


@pytest.mark.cluster
def test_workers_of_two_nodes_get_our_code_and_collect_the_same_bits(tmp_path: Path) -> None:
    driver = DRIVER.format(repository=str(REPOSITORY))
    done = _python(NODES, driver, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1]) == {"same": True, "nodes": 2}, done.stderr


@pytest.mark.cluster
def test_no_cluster_at_the_address_is_a_clear_error(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from cluster.config import ClusterConfig
from cluster.workers.session import RaySession
RaySession(ClusterConfig(kind="ray", address="127.0.0.1:9"), 1)
"""
    done = _python(code, cwd=tmp_path)
    assert done.returncode != 0
    assert "no Ray cluster can be joined at cluster.address='127.0.0.1:9'" in done.stderr


def _python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
