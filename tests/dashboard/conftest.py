"""A dashboard in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Server:
    """`dashboard`, started; `url` is what it said."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        command = [sys.executable, "-m", "experiments_vision", "dashboard", *words]  # it shows both kinds of runs
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://\S+", line):
                self.url = found.group(0)
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.lines += self.process.stdout

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C, or another signal."""
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a dashboard on a free port; all are stopped at the end."""
    started: list[Server] = []

    def start(root: Path, *words: str) -> Server:
        started.append(Server(str(root), "port=0", "every=0.3", *words))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
