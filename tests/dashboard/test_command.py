"""`dashboard`: what is refused before anything is served, and what the server lets through."""

from __future__ import annotations

import http.client
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.commands.conftest import Run
from tests.commands.conftest import run as run  # a fixture
from tests.dashboard.conftest import Server
from tests.reports.folders import make_run


def test_a_port_in_use_is_named(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run("dashboard", str(tmp_path), f"port={port}")
    assert (
        said.code == 2
        and said.err == f"error: port={port}: already in use on 127.0.0.1; name another, or port=0 for any\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        ([".", "port=70000"], "port=70000: must be 0 to 65535"),
        ([".", "every=0"], "every=0.0: must be at least 0.2 seconds"),
        ([".", "prot=1"], "prot"),
        ([".", "port=0", "host=192.0.2.1"], "host=192.0.2.1: cannot listen there"),
        (["port=0"], "name the folder of the runs"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_served(run: Run, words: list[str], message: str) -> None:
    said = run("dashboard", *words)
    assert said.code == 2 and message in said.err and "http" not in said.out


def test_without_dash_the_extra_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dash", None)
    for name in [name for name in sys.modules if name.startswith("mtrl_surgery.dashboard.")]:
        monkeypatch.delitem(sys.modules, name)
    said = run("dashboard", str(tmp_path), "port=0")
    assert said.code == 2 and "[dashboard]'" in said.err and "-m pip install -e '" in said.err


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return serve(root)


def get(server: Server, path: str, **headers: str) -> http.client.HTTPResponse:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_only_this_machine_is_answered_and_only_with_what_is_ours(server: Server) -> None:
    page = get(server, "/")
    assert page.status == 200 and server.url.startswith("http://127.0.0.1:")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'") and "script-src 'self' 'sha256-" in policy and "http" not in policy
    text = page.read().decode()
    assert 'src="http' not in text and 'href="http' not in text
    assert get(server, "/", Host="localhost").status == 200
    assert get(server, "/", Host="stranger.example").status == 400, "a name that leads here by DNS"
    for path in ("/assets/../app.py", "/assets/%2e%2e/app.py", "/assets//etc/passwd", "/config.yaml"):
        answer = get(server, path)
        assert answer.status == 404 or answer.read().startswith(b"<!doctype html>"), path


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.2", "127.0.0.2"), ("localhost", r"(127\.0\.0\.1|\[::1\])"), ("::1", r"\[::1\]")]
)
def test_the_address_that_is_printed_is_answered(
    serve: Callable[..., Server], tmp_path: Path, host: str, shown: str
) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    own = serve(tmp_path, f"host={host}")
    assert re.match(rf"http://{shown}:\d+/?$", own.url)
    assert "warning" not in "".join(own.lines), "nobody else reaches it"
    assert get(own, "/").status == 200, "as a browser asks, by the address as it is printed"
    assert get(own, "/", Host="stranger.example").status == 400
    assert own.stop() == 0


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_quietly(serve: Callable[..., Server], tmp_path: Path, number: int) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
    try:
        own = serve(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert own.stop(number) == 0
    assert "Traceback" not in "".join(own.lines)


def test_another_address_is_warned_of(serve: Callable[..., Server], tmp_path: Path) -> None:
    own = serve(tmp_path, "host=0.0.0.0")
    said = "".join(own.lines)
    assert "warning: host=0.0.0.0" in said and "no password" in said
    assert own.stop() == 0
