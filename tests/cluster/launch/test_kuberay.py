"""KubeRay's manifests against a strict description of the fields that they use, and against themselves."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mtrl_surgery import PACKAGES
from tests.cluster.launch.kubernetes import ManifestError, check_claim, check_ray_cluster, check_ray_job, pods
from tests.cluster.launch.launching import LAUNCH, RAY, check_composes, train_commands

FOLDER = LAUNCH / "kuberay"


def read(name: str) -> dict[str, Any]:
    manifest = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(manifest, dict)
    return manifest


def ray_cluster() -> dict[str, Any]:
    return read("raycluster.yaml")


def test_the_manifests_are_what_kuberay_takes():
    check_ray_cluster(ray_cluster())
    check_ray_job(read("rayjob.yaml"))
    check_claim(read("volume.yaml"))


def test_the_job_has_the_cluster_of_the_cluster_file():
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"] == ray_cluster()["spec"]


def test_every_container_authenticates_by_token():
    spec = ray_cluster()["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    containers = [container for pod in pods(spec) for container in pod["containers"]]
    assert len(containers) == 2
    for container in containers:
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]


def test_one_version_of_ray():
    assert ray_cluster()["spec"]["rayVersion"] == RAY
    assert f"ARG RAY={RAY}\n" in (FOLDER / "Dockerfile").read_text()


def test_only_the_head_has_the_runs_and_a_gpu():
    head, *workers = pods(ray_cluster()["spec"])
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in head["volumes"] if "emptyDir" not in volume]
    assert claims == [read("volume.yaml")["metadata"]["name"]]
    assert "nvidia.com/gpu" in head["containers"][0]["resources"]["limits"]
    for pod in workers:
        assert all("emptyDir" in volume for volume in pod["volumes"])
        assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]


def test_the_job_trains_and_writes_to_the_volume():
    job = read("rayjob.yaml")["spec"]
    (words,) = train_commands(job["entrypoint"])
    check_composes(words)
    shell, script, out, *_ = shlex.split(job["entrypoint"])
    head, *_ = pods(job["rayClusterSpec"])
    mounts = [mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]]
    assert any(out.startswith(f"{mount}/") for mount in mounts if mount != "/dev/shm")
    copied = re.findall(r"COPY .* cluster (\S+)", (FOLDER / "Dockerfile").read_text())
    assert shell == "bash" and script == f"{copied[0]}/launch/start.sh"


def test_the_image_has_every_package_that_is_installed():
    text = (FOLDER / "Dockerfile").read_text()
    for package in PACKAGES:
        assert re.search(rf"^COPY .* {package} ", text, re.MULTILINE), package


def _head(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "misspelt": (lambda m: m["spec"].update(autOptions={}), r"spec: unknown autOptions"),
    "no group name": (lambda m: m["spec"]["workerGroupSpecs"][0].pop("groupName"), "groupName is missing"),
    "number for text": (lambda m: m["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 1}), "num-cpus"),
    "unknown mode": (lambda m: m["spec"]["authOptions"].update(mode="on"), r"authOptions.mode: 'on'"),
    "mount of nothing": (lambda m: _head(m)["volumeMounts"][0].update(name="run"), "no volume 'run'"),
    "volume for nothing": (lambda m: _head(m)["volumeMounts"].pop(), "volume 'shm' is not mounted"),
    "limit below request": (lambda m: _head(m)["resources"]["limits"].update(memory="31Gi"), "memory"),
    "half a GPU": (lambda m: _head(m)["resources"]["requests"].update({"nvidia.com/gpu": "0"}), "nvidia.com/gpu"),
    "bad quantity": (lambda m: _head(m)["resources"]["limits"].update(memory="32GB"), "32GB"),
    "replicas": (lambda m: m["spec"]["workerGroupSpecs"][0].update(maxReplicas=2), "replicas"),
    "env number": (lambda m: _head(m)["env"][1].update(value=0), r"env\[1\].value: 0"),
    "env twice": (lambda m: _head(m)["env"].append(_head(m)["env"][0]), "RAY_AUTH_MODE twice"),
    "port name": (lambda m: _head(m)["ports"][0].update(name="much-too-long-a-name"), "much-too-long"),
    "name": (lambda m: m["metadata"].update(name="MTRL_surgery"), "MTRL_surgery"),
    "api": (lambda m: m.update(apiVersion="ray.io/v1alpha1"), "v1alpha1"),
    "old Ray": (lambda m: m["spec"].update(rayVersion="2.51.0"), "2.52"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_manifest_is_told_apart(name: str):
    break_, message = BREAKS[name]
    manifest = copy.deepcopy(ray_cluster())
    break_(manifest)
    with pytest.raises(ManifestError, match=message):
        check_ray_cluster(manifest)
