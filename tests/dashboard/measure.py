"""How long a page takes, in a headless Chromium on this machine: `python -m tests.dashboard.measure RUNS`.

RUNS is what `tests.dashboard.many` has made; rows are appended to its running runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from tests.browser import BROWSERS
from tests.dashboard.conftest import Server
from tests.dashboard.many import evaluation_rows, metric_rows

VIEWS = {
    "overview": "#runs tbody tr",
    "curves": "#figure-score_curves .main-svg",
    "tasks": "#figure-task_by_time .main-svg",
    "methods": "#figure-method_against_method .main-svg",
    "conflicts": "#figure-conflict_curves .main-svg",
    "health": "#figure-health .main-svg",
    "config": "#part-differences table",
}


def opened(browser: Any, url: str, selector: str) -> tuple[Any, float, float, float]:
    """A new page without any cache; the seconds to its first paint, its first words of the runs, its first figure."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#runs tbody tr, #sections h3", timeout=120_000)
    first = time.perf_counter() - start
    page.wait_for_selector(selector, timeout=120_000)
    figure = time.perf_counter() - start
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    return page, paint, first, figure


def append(run: Path, step: int, share: float) -> None:
    """What a running run writes: a logged step and an evaluation."""
    rng = np.random.default_rng(step)
    with (run / "metrics.jsonl").open("a") as metrics, (run / "evaluations.jsonl").open("a") as evaluations:
        metrics.writelines(metric_rows(rng, step))
        evaluations.writelines(evaluation_rows(rng, step, share))
    with (run / "health.jsonl").open("a") as health:
        health.write(f'{{"step":{step},"time":{time.time()},"wall_s":1.0,"steps_per_s":{80 + 20 * share}}}\n')


def seconds_until_drawn(page: Any, view: str, run: Path, step: int) -> float:
    """From a row in the file to the end of the drawing of another picture on the page."""
    shown = "#runs" if view == "overview" else VIEWS[view].partition(" ")[0]
    # The page itself notes when it was drawn: to ask it again and again would take its time.
    page.evaluate(
        """shown => {
            const drawn = ({ target }) => shown === "#runs" || (target instanceof SVGElement && target.closest(shown));
            const note = (changes) => { if (changes.some(drawn)) window.drawnAt = Date.now() / 1000; };
            window.watch?.disconnect();
            window.watch = new MutationObserver(note);
            const place = document.querySelector(shown === "#runs" ? shown : "#sections");
            window.watch.observe(place, { subtree: true, childList: true, attributes: true });
            window.drawnAt = 0;
        }""",
        shown,
    )
    start = time.time()
    append(run, step, float(np.random.default_rng(step).random()))
    drawn = 0.0
    while not drawn or time.time() - drawn < 1:
        if time.time() - start > 60:
            return float("nan")
        time.sleep(0.25)
        drawn = float(page.evaluate("window.drawnAt"))
    return drawn - start


def main(root: str) -> None:
    """Prints a table."""
    running = [path for path in sorted(Path(root).iterdir()) if '"running"' in (path / "manifest.json").read_text()]
    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        browser.new_page().close()
        server = Server(root, "port=0", "every=0.2")
        try:
            _measure(browser, server, running)
        finally:
            server.stop()
            browser.close()


def _measure(browser: Any, server: Server, running: list[Path]) -> None:
    page, paint, first, _ = opened(browser, server.url, VIEWS["overview"])
    start = time.perf_counter()
    done = page.locator("#status", has_text=re.compile(r"^\d+ runs?$"))
    done.wait_for(timeout=300_000)
    rest = time.perf_counter() - start
    print(
        f"a server that has read nothing: {paint:.2f} s to the first paint, {first:.2f} to rows, {rest:.1f} more to all"
    )
    page.close()
    print(f"{'view':10} {'paint':>6} {'text':>6} {'figure':>6} {'update':>7}   seconds")
    for place, (view, selector) in enumerate(VIEWS.items()):
        page, *_ = opened(browser, f"{server.url}?view={view}", selector)
        page.locator("#status", has_text=re.compile(r"^\d+ runs?$")).wait_for(timeout=300_000)
        page.wait_for_timeout(4000)
        page.close()
        page, paint, text, figure = opened(browser, f"{server.url}?view={view}", selector)
        page.wait_for_timeout(2000)
        updates = []
        for time_ in range(3 if view != "config" else 0):
            updates.append(seconds_until_drawn(page, view, running[0], 10**6 + 1000 * (10 * place + time_)))
        update = np.median(updates) if updates else np.nan
        load = os.getloadavg()[0]
        print(f"{view:10} {paint:6.2f} {text:6.2f} {figure:6.2f} {update:7.2f}   load {load:.1f}", flush=True)
        page.close()
    memory = Path(f"/proc/{server.process.pid}/status")
    if memory.exists():
        print(re.search(r"VmHWM:\s+(\d+) kB", memory.read_text()).group(1), "kB at most")  # type: ignore[union-attr]


if __name__ == "__main__":
    main(sys.argv[1])
