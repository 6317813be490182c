"""A run's gauges: on a real node's metrics port, and in the dashboard that draws them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.workers.gauges import EXPORTED, OF_RUN, OF_TASK
from tests.cluster.launch.launching import LAUNCH, REPOSITORY

GRAFANA = LAUNCH / "grafana"
RUN = {"run": "mt2_samgs_s0", "method": "samgs", "tasks": 2, "copies": 2, "replay_capacity": 1000}
HEALTH = {
    "steps_per_s": 5.0,
    "updates_per_s": 2.5,
    "wait_s": 1.5,
    "learn_s": 3.0,
    "collect_s": 9.0,
    "lag_updates": 10.0,
    "workers": 3,
    "restarts": 1,
}
EVALUATION = [
    {"task": task, "evaluation/success_any": often, "evaluation/success_last": last, "evaluation/return": mean}
    for task, often, last, mean in ((None, 0.35, 0.3, 1.25), ("reach-v3", 0.7, 0.6, 3.5), ("push-v3", 0.0, 0.0, -1.0))
]
DRIVER = """
import json, sys, time, urllib.request
sys.path.insert(0, {repository!r})
import ray
port, run, rows = int(sys.argv[1]), *map(json.loads, sys.argv[2:])
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False,
         _node_ip_address="127.0.0.1", _metrics_export_port=port)
from cluster.workers.gauges import EXPORTED, Gauges
gauges = Gauges(**run)
for row in rows:
    gauges.write([row])
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    time.sleep(0.5)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{{port}}/metrics", timeout=5).read().decode()
    except OSError:
        continue
    found = [line for line in text.splitlines() if line.startswith(EXPORTED)]
    if found:
        break
print(json.dumps(found))
ray.shutdown()
"""


@pytest.mark.cluster
@pytest.mark.slow
def test_the_values_appear_on_the_nodes_metrics_port(tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    rows = [{"step": 80, **HEALTH}, {"step": 100, **HEALTH}, {"step": 100, "event": "checkpoint", "seconds": 1.0}]
    arguments = [json.dumps(value) for value in (RUN, rows + EVALUATION)]
    code = DRIVER.format(repository=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, "-c", code, str(port), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found: dict[tuple[str, str | None], float] = {}
    for line in json.loads(done.stdout.strip().splitlines()[-1]):
        name, labels, value = re.fullmatch(rf"{EXPORTED}(\w+){{(.*)}} (\S+)", line).groups()  # type: ignore[union-attr]
        assert f'run="{RUN["run"]}"' in labels and 'method="samgs"' in labels
        task = re.search(r'task="([^"]*)"', labels)
        assert (name, task and task[1]) not in found, "one series a label value"
        found[name, task and task[1]] = float(value)
    assert found == {
        ("step", None): 100,
        ("env_steps_per_second", None): 20.0,  # 5 vector steps of 2 tasks with 2 copies
        ("updates_per_second", None): 2.5,
        ("replay_fill_ratio", None): pytest.approx(0.2),
        ("weight_lag_updates", None): 10.0,
        ("workers", None): 3,
        ("worker_restarts", None): 1,
        ("driver_wait_seconds", None): 1.5,
        ("success_ratio", "reach-v3"): pytest.approx(0.7),
        ("success_last_ratio", "reach-v3"): pytest.approx(0.6),
        ("mean_return", "reach-v3"): 3.5,
        ("success_ratio", "push-v3"): 0,
        ("success_last_ratio", "push-v3"): 0,
        ("mean_return", "push-v3"): -1.0,
    }
    assert {name for name, _ in found} == {*OF_RUN, *OF_TASK}


def dashboard() -> dict[str, Any]:
    value = json.loads((GRAFANA / "dashboard.json").read_text())
    assert isinstance(value, dict)
    return value


def test_the_dashboard_draws_every_gauge_and_nothing_else():
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}
    assert named == {f"{EXPORTED}{name}" for name in (*OF_RUN, *OF_TASK)}
    labels = {label for expression in expressions for label in re.findall(r"[{,]\s*(\w+)\s*[=!]~?", expression)}
    grouped = {
        label
        for expression in expressions
        for by in re.findall(r"by \(([^)]*)\)", expression)
        for label in by.split(", ")
    }
    assert labels | grouped <= {"run", "method", "task"}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            of_task = any(f"{EXPORTED}{name}" in target["expr"] for name in OF_TASK) and "by (" not in target["expr"]
            assert shown <= {"run", "method"} | ({"task"} if of_task else set()), panel["title"]


def test_the_dashboard_stands():
    value = dashboard()
    panels = value["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "two panels overlap"
    assert max(x for x, _ in cells) < 24
    variables = {variable["name"] for variable in value["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used == variables == {"datasource", "run"}
    for panel in panels:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]


def test_prometheus_reads_the_ports_and_the_file_that_ray_has():
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    prometheus = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())
    files = prometheus["scrape_configs"][0]["file_sd_configs"][0]["files"]
    assert [Path(file).name for file in files] == [PROMETHEUS_SERVICE_DISCOVERY_FILE]
    monitor = yaml.safe_load((LAUNCH / "kuberay" / "podmonitor.yaml").read_text())
    wanted = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    spec = yaml.safe_load((LAUNCH / "kuberay" / "raycluster.yaml").read_text())["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert wanted <= {port["name"] for port in container["ports"]}
