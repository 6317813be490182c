"""Starting Ray on this machine, or joining a cluster that runs. The only file that calls `ray.init`."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cluster.config import ClusterConfig, ClusterError, ClusterFailure
from mtrl_surgery import PACKAGES

_GLANCE = 0.05  # seconds between two looks at whether Ray has started, or lives
_KNOCKS, _PATIENCE = 20, 5.0  # a process that refuses so often is dead; seconds that it may take to answer once
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class RaySession:
    """A connection to Ray for as long as a run lasts; what it didn't start it doesn't stop."""

    def __init__(self, config: ClusterConfig, workers: int) -> None:
        """Start Ray (kind=local) or join it (kind=ray); a Ray that this process is connected to already is used as is.

        Args:
            config: The options.
            workers: CPUs of a Ray that is started.

        Raises:
            ClusterError: there is no cluster at the address, or it refuses us.
        """
        if config.kind == "local":
            keep_to_this_machine()
        import ray

        self._owned = not ray.is_initialized()
        self.on_this_machine = config.kind == "local"  # all workers run here
        self._closed = threading.Event()
        self._places: dict[str, tuple[str, int]] = {}
        self.lost = ""  # what of Ray died, if it did
        if not self._owned:
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if config.kind == "local":
            options |= {
                "address": "local",
                "num_cpus": workers,
                "include_dashboard": False,
                "object_store_memory": config.object_store_mb * 2**20,
                "_node_ip_address": "127.0.0.1",
            }
        else:
            assert config.address is not None  # validated
            _check_listens(config.address)
            options |= {"address": config.address, "runtime_env": _shipped_code()}
        try:
            self._init(options)
        except Exception as error:
            ray.shutdown()
            if config.kind == "ray":
                raise ClusterError(
                    f"no Ray cluster can be joined at cluster.address={config.address!r}: {error} "
                    f"(is RAY_AUTH_MODE the same there and here, and is its token here?)"
                ) from error
            # Ray gives its own processes 30 s to start, which a busy machine may need twice.
            print(f"Ray did not start ({str(error).splitlines()[0]}); trying once more ...", file=sys.stderr)
            try:
                self._init(options)
            except Exception as again:
                ray.shutdown()
                raise ClusterFailure(f"Ray does not start on this machine: {again}") from again

    def _init(self, options: dict[str, Any]) -> None:
        """Start or join Ray in a thread, so that this one hears signals meanwhile, which Ray would keep for itself.

        The thread lives as long as the session: Linux ends what Ray has started when the thread that started it ends.
        """
        outcome: list[Exception | None] = []

        def begin() -> None:
            try:
                _ray().init(**options)
            except Exception as error:
                outcome.append(error)
            else:
                outcome.append(None)
                self._closed.wait()

        threading.Thread(target=begin, name="starts Ray", daemon=True).start()
        try:
            while not outcome:
                time.sleep(_GLANCE)
        except BaseException as stop:
            _leave_at_once(stop)
            raise
        if outcome[0] is not None:
            raise outcome[0]

    def check(self) -> None:
        """Look whether Ray still lives.

        Raises:
            ClusterFailure: its head, or its process on this machine, does not. All of Ray that is ours is ended:
                Ray's own client would end this process a little later.
        """
        if not self.lost:
            dead = [name for name, place in self._vital().items() if not _listens(*place)]
            if not dead:
                return
            self.lost = " and ".join(dead)
            self._abandon()
        raise ClusterFailure(f"Ray cannot go on: {self.lost} died; resume= goes on from the newest checkpoint")

    def _vital(self) -> dict[str, tuple[str, int]]:
        """What Ray cannot lose: where its head listens, and its process on this machine."""
        if not self._places:
            host, _, port = str(_ray().get_runtime_context().gcs_address).rpartition(":")
            self._places["its head process (gcs_server)"] = host.strip("[]"), int(port)
            own = next(node for node in _ray().nodes() if node["NodeID"] == own_node())
            self._places["its process on the driver's machine (raylet)"] = (
                own["NodeManagerAddress"],
                int(own["NodeManagerPort"]),
            )
        return self._places

    def _abandon(self) -> None:
        if not self._owned:
            return
        started = [pid for pid in _descendants(os.getpid()) if _is_rays(pid)] if self.on_this_machine else []
        _ray().shutdown()
        self._closed.set()
        for pid in started:  # without its head, Ray leaves some of them
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def worker_environment(self, threads: int = 1) -> dict[str, Any]:
        """The `runtime_env` of a worker: its threads, and on this machine the driver's own import path."""
        variables = dict.fromkeys(_THREADS, str(threads))
        if self.on_this_machine:
            paths = [str(_repository()), *(path for path in sys.path if path and Path(path).exists())]
            variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
        return {"env_vars": variables}

    def close(self) -> None:
        """Leave Ray, and stop it if this session started it."""
        if self._owned and not self.lost and "ray" in sys.modules:
            _ray().shutdown()
        self._closed.set()


@dataclass(frozen=True)
class Node:
    """A node of the cluster that lives: its address, and the bytes of its object store."""

    address: str
    store_bytes: int


def nodes() -> dict[str, Node]:
    """The nodes that live, by their id."""
    alive = [node for node in _ray().nodes() if node["Alive"]]
    return {
        node["NodeID"]: Node(node["NodeManagerAddress"], int(node["Resources"].get("object_store_memory", 0)))
        for node in alive
    }


def draining_nodes() -> set[str]:
    """Ids of the nodes that were told to go: a spot machine's notice, an autoscaler, `ray drain-node`."""
    from ray._private.state import state  # no public call tells of it

    return set(state.get_draining_nodes())


def own_node() -> str:
    """The id of the node that this process runs on."""
    return str(_ray().get_runtime_context().get_node_id())


def free_cpus() -> float:
    """CPUs that no actor or task of the cluster has."""
    return float(_ray().available_resources().get("CPU", 0))


def describe_cpus() -> str:
    """What the cluster has to offer, for messages."""
    return f"{free_cpus():g} of {_ray().cluster_resources().get('CPU', 0):g} CPUs free"


def _leave_at_once(stop: BaseException) -> None:
    """Have the process end without Ray's own end, which would wait for a start that is half done.

    Linux then ends what Ray has started.
    """
    code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 128 + signal.SIGINT
    atexit.unregister(_ray().shutdown)

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)

    atexit.register(leave)


def _listens(host: str, port: int) -> bool:
    """Whether a process listens there; one that is busy, or far away, may take its time."""
    for _ in range(_KNOCKS):
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except OSError:
            time.sleep(_GLANCE)
        else:
            return True
    return False


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have; none where the system does not tell."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in file.read_text().split()]
        except OSError:
            continue  # the thread has ended
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _is_rays(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False  # it has ended
    return command.startswith("ray::") or f"{os.sep}ray{os.sep}" in command


def _ray() -> ModuleType:
    import ray

    return ray


def _shipped_code() -> dict[str, Any]:
    """The driver's copy of our packages for the workers of another machine: every node runs the same code.

    A driver that is itself a submitted job runs from the job's working folder, which its workers get anyway.
    """
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    modules = [str(_repository() / package) for package in PACKAGES]
    return {"py_modules": modules, "excludes": ["**/__pycache__"]}


def _check_listens(address: str) -> None:
    """Ray itself tries for minutes to reach a head node that isn't there.

    Raises:
        ClusterError: nothing listens at HOST:PORT. Other forms of address are left to Ray.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster can be joined at cluster.address={address!r}: {error} (is the head node up?)"
        ) from error


def _repository() -> Path:
    return Path(__file__).resolve().parents[2]


def keep_to_this_machine() -> None:
    """Environment of a private Ray; Ray reads it once, when it's imported, and its processes inherit it.

    Ray listens on every interface of a Linux machine unless multi-node clusters are off, a switch that is named after
    other systems. The token keeps other users of the machine out; given here it's written into no file, so that a
    later `ray start` in the same home doesn't find one and turn authentication on for its cluster.
    """
    if "ray" in sys.modules:
        return  # too late: a change now would only make Ray's processes disagree with each other
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray starts a worker a core ahead, in an environment that ours can't use.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: the learner would starve what it waits for
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
