"""Sweeps on real nodes: one is killed while runs go on, and all runs end as if nothing had been."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.chaos.nodes import LocalNodes
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.sweeps.folder import find
from tests.cluster.sweeping import Sweep, same_rows

pytestmark = pytest.mark.cluster


@pytest.fixture
def nodes() -> Iterator[LocalNodes]:
    """A head and another node, with a CPU each."""
    cluster = LocalNodes(cpus=1)
    try:
        cluster.add(1)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path, seeds="range(3)")
    yield made
    made.end()


def test_a_sweep_loses_a_node_and_finishes(nodes: LocalNodes, sweep: Sweep) -> None:
    """Of four runs one is finished already, one was made with other settings, two are done on two nodes."""
    undisturbed = {seed: sweep.undisturbed(seed) for seed in range(3)}
    before = Path(shutil.copytree(undisturbed[0], sweep.out / undisturbed[0].name))
    manifest = (before / "manifest.json").read_bytes()
    sweep.seeds, sweep.words = "range(4)", (f"sweep.address={nodes.address}",)
    foreign = _made_otherwise(sweep, undisturbed[0])

    sweep.start()
    head = str(nodes.head.node_id)
    (lost,) = sweep.until(lambda: [seed for seed in sweep.begun() if head not in (sweep.path(seed) / LOG).read_text()])
    nodes.remove(nodes.nodes[-1])
    code, said = sweep.finish()

    assert code == 1, said
    assert sweep.states(*range(4)) == ["done", "done", "done", "broken"]
    assert (before / "manifest.json").read_bytes() == manifest, "left alone"
    for seed in (1, 2):
        path = sweep.path(seed)
        assert path.name == undisturbed[seed].name and same_rows(path, undisturbed[seed])
        told = RunFolder.open(path).manifest()
        assert told["status"] == "finished" and len(told["resumed"]) == (seed == lost)
    log = (sweep.path(lost) / LOG).read_text()
    assert log.count("=== ") == 3 and " pending: lost: " in log and "going on at step" in log, "resumed, not restarted"
    assert f"pending  seed={lost}" in said and "lost: " in said
    assert "agent.batch_size=16 there, 8 here" in said and f"{foreign / LOG}" in said
    assert "failed   seed=3" in said and find(str(sweep.out)).driver() is None


def _made_otherwise(sweep: Sweep, other: Path) -> Path:
    """A run that was broken off, in the folder of seed 3, with settings that are not those of the sweep."""
    path = Path(shutil.copytree(other, sweep.out / sweep.name(3)))
    config = yaml.safe_load((path / "config.yaml").read_text()) | {"seed": 3}
    config["agent"]["batch_size"] = 16
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    return path
