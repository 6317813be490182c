"""A strict reading of the Kubernetes and KubeRay fields that our manifests use: anything else is an error.

Written from the v1 resource definitions of KubeRay 1.6; it knows less than they do, so that a misspelt field, which an
API server without strict validation would drop in silence, can't pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, str], None]


class ManifestError(AssertionError):
    """Where the manifest is wrong, and how."""


def _fail(where: str, what: str) -> None:
    raise ManifestError(f"{where}: {what}")


def fields(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    """A mapping with these keys and no others."""
    known = required | (optional or {})

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, f"{value!r} is no mapping")
        for key in required.keys() - value.keys():
            _fail(where, f"{key} is missing")
        for key, item in value.items():
            if key not in known:
                _fail(where, f"unknown {key}; known: {', '.join(sorted(known))}")
            known[key](item, f"{where}.{key}")

    return check


def each(item: Check, least: int = 1) -> Check:
    """A list of such items."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            _fail(where, f"{value!r} is no list of {least} or more")
        for index, one in enumerate(value):
            item(one, f"{where}[{index}]")

    return check


def text(pattern: str = r"(?s).+") -> Check:
    """A string of this form."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            _fail(where, f"{value!r} is no text of the form {pattern}")

    return check


def mapping(item: Check) -> Check:
    """A mapping from any text."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, f"{value!r} is no mapping")
        for key, one in value.items():
            item(one, f"{where}.{key}")

    return check


def whole(least: int = 0) -> Check:
    """A whole number, `least` or more."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            _fail(where, f"{value!r} is no whole number >= {least}")

    return check


def true_or_false(value: Any, where: str) -> None:
    """A boolean."""
    if not isinstance(value, bool):
        _fail(where, f"{value!r} is neither true nor false")


NAME = text(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?")  # KubeRay builds service and pod names on it
QUANTITY = text(r"\d+(\.\d+)?(m|[KMGT]i?)?")
RESOURCES = mapping(QUANTITY)
CONTAINER = fields(
    {
        "name": NAME,
        "image": text(r"[\w./-]+:[\w.-]+"),
        "resources": fields({"requests": RESOURCES, "limits": RESOURCES}),
    },
    {
        "env": each(fields({"name": text(r"[A-Z_][A-Z0-9_]*"), "value": text()})),
        "ports": each(fields({"name": text(r"[a-z0-9-]{1,15}"), "containerPort": whole(1)})),
        "volumeMounts": each(fields({"name": NAME, "mountPath": text(r"/[\w/-]+")}, {"readOnly": true_or_false})),
    },
)
VOLUME = fields(
    {"name": NAME},
    {
        "emptyDir": fields({}, {"medium": text("Memory"), "sizeLimit": QUANTITY}),
        "persistentVolumeClaim": fields({"claimName": NAME}),
    },
)
POD = fields(
    {"containers": each(CONTAINER)},
    {"volumes": each(VOLUME), "securityContext": fields({"fsGroup": whole(1)})},
)
GROUP = {"template": fields({"spec": POD}), "rayStartParams": mapping(text())}
CLUSTER = fields(
    {
        "rayVersion": text(r"\d+\.\d+\.\d+"),
        "authOptions": fields({"mode": text("token|disabled")}),
        "headGroupSpec": fields(GROUP),
        "workerGroupSpecs": each(
            fields(GROUP | {"groupName": NAME, "replicas": whole(), "minReplicas": whole(), "maxReplicas": whole(1)})
        ),
    },
)
JOB = fields(
    {"entrypoint": text(), "rayClusterSpec": CLUSTER, "shutdownAfterJobFinishes": true_or_false},
    {
        "submissionMode": text("K8sJobMode|HTTPMode|SidecarMode"),
        "backoffLimit": whole(),
        "ttlSecondsAfterFinished": whole(),
    },
)
CLAIM = fields(
    {
        "accessModes": each(text("ReadWriteOnce|ReadWriteMany")),
        "resources": fields({"requests": fields({"storage": QUANTITY})}),
    }
)


def check_ray_cluster(manifest: Any) -> None:
    """Raise ManifestError unless it is a RayCluster that KubeRay would take and that fits together."""
    _resource("ray.io/v1", "RayCluster", CLUSTER)(manifest, "RayCluster")
    _consistent(manifest["spec"])


def check_ray_job(manifest: Any) -> None:
    """The same for a RayJob."""
    _resource("ray.io/v1", "RayJob", JOB)(manifest, "RayJob")
    _consistent(manifest["spec"]["rayClusterSpec"])


def check_claim(manifest: Any) -> None:
    """The same for a PersistentVolumeClaim."""
    _resource("v1", "PersistentVolumeClaim", CLAIM)(manifest, "PersistentVolumeClaim")


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod specifications of a cluster, the head's first."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def _resource(version: str, kind: str, spec: Check) -> Check:
    return fields(
        {"apiVersion": text(re.escape(version)), "kind": text(kind), "metadata": fields({"name": NAME}), "spec": spec}
    )


def _consistent(cluster: dict[str, Any]) -> None:
    if tuple(map(int, cluster["rayVersion"].split(".")))[:2] < (2, 52):
        _fail("rayVersion", f"{cluster['rayVersion']} knows no tokens: 2.52 or newer")
    for group in cluster["workerGroupSpecs"]:
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            _fail(group["groupName"], "minReplicas <= replicas <= maxReplicas does not hold")
    for pod in pods(cluster):
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        mounted = [mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])]
        for name in set(mounted) - set(volumes):
            _fail("volumeMounts", f"no volume {name!r}")
        for name in set(volumes) - set(mounted):
            _fail("volumes", f"volume {name!r} is not mounted")
        for container in pod["containers"]:
            _container(container)


def _container(container: dict[str, Any]) -> None:
    names = [variable["name"] for variable in container.get("env", [])]
    for name in {name for name in names if names.count(name) > 1}:
        _fail("env", f"{name} twice")
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    for name, wanted in requests.items():
        if name not in limits or _amount(limits[name]) < _amount(wanted):
            _fail("resources", f"{name}: the limit is below the request {wanted}")
    for name in limits.keys() - {"cpu", "memory"}:  # an extended resource can't be overcommitted
        if requests.get(name) != limits[name]:
            _fail("resources", f"{name}: request and limit must be equal")


def _amount(quantity: str) -> float:
    factors = {"m": 1e-3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * factors.get(unit, 1)
