"""`ray up`: both files pass Ray's own schema, and each node is told to authenticate."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.cluster.launch.launching import LAUNCH, RAY

FILES = ("ray-up-local.yaml", "ray-up-aws.yaml")


def read(name: str) -> dict[str, Any]:
    config = yaml.safe_load((LAUNCH / name).read_text())
    assert isinstance(config, dict)
    return config


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_ray_takes_the_file(config: dict[str, Any]):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    workers = [node for name, node in prepared["available_node_types"].items() if name != prepared["head_node_type"]]
    nodes = sum(node["max_workers"] for node in workers) or prepared["max_workers"]
    assert nodes == prepared["max_workers"] > 0


def test_ray_refuses_a_misspelt_key():
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="worker_setup_command"):
        validate_config(prepare_config(read("ray-up-aws.yaml") | {"worker_setup_command": []}))


def test_every_ray_command_says_how_to_authenticate(config: dict[str, Any]):
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert sum("ray start" in command for command in commands) == 2
    for command in commands:
        assert "RAY_AUTH_MODE=token" in command.partition("ray st")[0], command
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_ray_start_knows_every_option(config: dict[str, Any]):
    from ray.scripts.scripts import start

    for key, heads in (("head_start_ray_commands", True), ("worker_start_ray_commands", False)):
        words = shlex.split(config[key][-1].partition("ray start ")[2])
        parsed = start.make_context("start", words).params
        assert parsed["head"] is heads and parsed["metrics_export_port"] == 8080
        assert parsed["dashboard_host"] in ("localhost", "127.0.0.1")


def test_one_version_of_ray_and_our_wheel_with_its_extra_on_every_node(config: dict[str, Any]):
    common = config["setup_commands"]
    for role in ("head", "worker"):
        installs = " ".join([*common, *config.get(f"{role}_setup_commands", [])])
        assert "[cluster]" in installs and f"ray[default]=={RAY}" in installs
    text = yaml.safe_dump(config)
    assert set(re.findall(r"rayproject/ray:([\d.]+)-py311-(?:gpu|cpu)\b", text)) <= {RAY}


def test_the_cloud_has_a_gpu_head_and_spot_workers():
    config = read("ray-up-aws.yaml")
    nodes = config["available_node_types"]
    head = nodes.pop(config["head_node_type"])
    assert head["resources"]["GPU"] == 1 and "InstanceMarketOptions" not in head["node_config"]
    assert nodes
    for node in nodes.values():
        assert node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert "GPU" not in node["resources"] and node["min_workers"] == node["max_workers"]
