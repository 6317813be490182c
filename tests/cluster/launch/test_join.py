"""The main job on a cluster of two nodes that ask for a token, as the launch files start it: `start.sh`, twice."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.launch.launching import LAUNCH

SMALL = [
    "env=classic",
    "method=pcgrad",
    "logger=none",
    "agent.hidden_sizes=[16,16]",
    "agent.batch_size=8",
    "agent.warmup_steps=40",
    "agent.replay_capacity=1000",
    "cluster.chunk_steps=20",
    "evaluation.every=100",
    "evaluation.episodes=1",
    "evaluation.final_episodes=1",
    "checkpoint.every=100",
    "log_every=50",
    "threads=1",
    "device=cpu",
]
NODES = """
import json, sys
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for _ in sys.stdin:
    ray.init(address=cluster.address, log_to_driver=False)
    from ray._private.state import actors
    workers = [actor for actor in actors().values() if actor["ActorClassName"] == "RolloutWorker"]
    print(json.dumps(sorted(actor["Address"]["NodeID"] for actor in workers)), flush=True)
    ray.shutdown()
cluster.shutdown()
"""
WAIT = 240.0  # seconds, on a machine that does much else


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A token of this test's own, this interpreter as `python`, and our packages on the path of the job alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # which has Ray listen on the loopback interface alone
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
    }


@pytest.fixture
def nodes(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Two nodes; their first line is their address, and each line that they are told asks who worked where."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODES],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(WAIT) == 0


def start(out: Path, steps: int, environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    words = ["bash", str(LAUNCH / "start.sh"), str(out), *SMALL, f"total_steps={steps}"]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=WAIT)


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


@pytest.mark.cluster
@pytest.mark.slow
def test_two_nodes_train_and_go_on_and_nobody_joins_without_the_token(
    nodes: subprocess.Popen[str], environment: dict[str, str], tmp_path: Path
):
    assert nodes.stdin is not None and nodes.stdout is not None
    environment |= {"RAY_ADDRESS": nodes.stdout.readline().strip()}  # what `auto` means: other tests have a Ray as well
    out = tmp_path / "out"
    first = start(out, 160, environment, tmp_path)
    assert first.returncode == 0, first.stderr
    nodes.stdin.write("\n")
    nodes.stdin.flush()
    assert len(set(json.loads(nodes.stdout.readline()))) == 2, "both nodes collected"

    second = start(out, 320, environment, tmp_path)
    assert second.returncode == 0, second.stderr
    (run,) = [path for path in out.iterdir() if path.is_dir()]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished" and len(manifest["resumed"]) == 1

    words = ["-m", "mtrl_surgery", "train", *SMALL, "cluster=inline", "total_steps=320", "out=alone"]
    alone = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT)
    assert alone.returncode == 0, alone.stderr
    (undisturbed,) = (tmp_path / "alone").iterdir()
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(run, name) and rows(run, name) == rows(undisturbed, name)

    stranger = start(tmp_path / "other", 160, environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}, tmp_path)
    assert stranger.returncode != 0 and "RAY_AUTH_MODE" in stranger.stderr
    assert not list((tmp_path / "other").glob("*/checkpoints/step-*"))
