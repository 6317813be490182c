"""A Chromium of this machine, and a dashboard in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser; where there is none the test is skipped, and in CI it fails."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"no browser ({', '.join(BROWSERS)}): apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


class Server:
    """`mtrl_surgery dashboard`, started; `url` is what it said."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        command = [sys.executable, "-m", "mtrl_surgery", "dashboard", *words]
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
