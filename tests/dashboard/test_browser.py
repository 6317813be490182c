"""The page in a real browser: it loads, filters, follows a running run, and says nothing to the console."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import TimeoutError as Late
from playwright.sync_api import expect

from tests.dashboard.conftest import Server
from tests.reports.folders import make_run
from tests.vision.tables.folders import make_run as make_vision_run

pytestmark = pytest.mark.browser

VIEWS = {
    "curves": "Learning curves",
    "tasks": "Tasks over time",
    "methods": "Method against method",
    "conflicts": "Conflict over training",
    "health": "Run health",
    "config": "Configuration differences",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods and two values of a key; one run goes on."""
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        make_run(out, "ls", seed)
        make_run(out, "samgs", seed, status="running" if seed else "finished")
    make_run(out, "samgs", 2, agent={"tau": 0.02})
    make_vision_run(out, "multidigits", "famo", lambda split, epoch, mode, name: 0.9 + 0.001 * epoch)
    return out


@pytest.fixture(scope="module")
def server(runs: Path, serve: Callable[..., Server]) -> Server:
    return serve(runs)


class Opened:
    """A page, with what it asked for and what it complained about."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.said.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("requestfailed", self._failed)
        page.on("request", lambda request: self.asked.append(request.url))
        page.set_default_timeout(20_000)

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in request.failure:  # by the page itself, when it goes elsewhere
            self.said.append(f"failed: {request.url}")

    def go(self, query: str = "") -> Any:
        self.page.goto(self.url + query)
        self.page.wait_for_selector("#runs tbody tr, #sections section h3")
        self.page.locator("#status", has_text=re.compile(r"^\d+ runs?$")).wait_for()  # all have been read
        return self.page

    def traces(self, part: str) -> list[dict[str, Any]]:
        """What Plotly has drawn."""
        self.page.wait_for_selector(f"#figure-{part} .main-svg")
        script = "id => document.querySelector(id + ' .js-plotly-plot').data.map(t => ({name: t.name, x: [...t.x]}))"
        return list(self.page.evaluate(script, f"#figure-{part}"))

    def heights(self, part: str) -> list[list[float]]:
        """Of what Plotly has drawn."""
        self.page.wait_for_selector(f"#figure-{part} .main-svg")
        script = "id => document.querySelector(id + ' .js-plotly-plot').data.map(t => [...t.y])"
        return list(self.page.evaluate(script, f"#figure-{part}"))


@pytest.fixture
def opened(chromium: Any, server: Server) -> Iterator[Opened]:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    own = Opened(page, server.url)
    yield own
    page.close()
    local = (server.url, "data:", "blob:")
    assert not own.said, "errors in the console"
    assert not [url for url in own.asked if not url.startswith(local)], "nothing is loaded from elsewhere"


def rows_of(page: Any) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in page.locator("#runs tbody tr").all()]


def test_every_view_has_its_figures(opened: Opened) -> None:
    page = opened.go()
    page.locator("#status", has_text=re.compile("^6 runs$")).wait_for()
    found = {row[1]: row for row in rows_of(page)}
    assert len(found) == 6 and found["three_samgs_s1"][0].endswith("running")
    assert found["three_ls_s0"][4:6] == ["0.600", "100%"], "the mean of 0.2, 0.6 and 1.0"
    for view, heading in VIEWS.items():
        page.locator(f"#views a[href*='view={view}']").click()
        page.locator("#sections h3", has_text=heading).first.wait_for()
        if view == "config":
            page.wait_for_selector("#part-differences td:text-is('0.02')")
        else:
            page.wait_for_selector("#sections .js-plotly-plot .main-svg")
        assert f"view={view}" in page.url
    assert page.locator(".remarks").count() == 0


WITHIN = """() => [...document.querySelectorAll(".figure")].every(figure => {
    const box = figure.getBoundingClientRect();
    const inside = [...figure.querySelectorAll(".main-svg, .legend .bg, .colorbar .cbfills")];
    return inside.length && figure.scrollWidth <= figure.clientWidth && inside.every(own => {
        const at = own.getBoundingClientRect();
        return at.left >= box.left - 1 && at.right <= box.right + 1 && at.bottom <= box.bottom + 1;
    });
})"""
BELOW = """() => [...document.querySelectorAll(".figure")].every(figure => {
    const panels = figure.querySelector(".cartesianlayer")?.getBoundingClientRect();
    return panels?.height > 0 && [...figure.querySelectorAll(".legend .bg, .colorbar .cbfills")].every(
        own => own.getBoundingClientRect().top >= panels.bottom - 1);
})"""


def test_on_a_phone_figures_fit_and_views_are_at_hand(chromium: Any, server: Server) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    own = Opened(page, server.url)
    own.go("?benchmark=three")
    for view, heading in list(VIEWS.items())[:-1]:
        page.locator(f"#views a[href*='view={view}']").click()
        page.locator("#sections h3", has_text=heading).first.wait_for()
        page.wait_for_selector("#sections .js-plotly-plot .main-svg")
        page.wait_for_function(WITHIN)
        page.wait_for_function(BELOW)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for link in page.locator("#views a").all():
            box = link.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] < 200, link.inner_text()
        assert not page.locator("#benchmark").is_visible(), "the choices are folded, and leave the screen to the view"
    page.locator("#controls summary").click()
    assert page.locator("#benchmark").is_visible()
    page.close()
    assert not own.said


def choose_value(page: Any, value: str, chip: str) -> None:
    """As a person would, who tries again if the list closed under the pointer: the page updates all the while."""
    for last in (False, False, True):
        page.locator("#values").click()
        page.get_by_role("option", name=value).click()
        page.keyboard.press("Escape")
        try:
            page.locator("#chips a", has_text=chip).wait_for(timeout=8000)
            return
        except Late as error:
            shown = page.locator("#values").inner_text()
            print(f"not chosen: {page.url} {shown!r}")
            if last:
                raise AssertionError(f"{chip} was not chosen: {page.url} {shown!r}") from error


def test_a_filter_is_in_the_address_and_a_link_opens_it_again(opened: Opened) -> None:
    page = opened.go("?view=curves&benchmark=three")
    names = {trace["name"] for trace in opened.traces("score_curves")}
    assert names == {"ls (agent.tau=0.005)", "samgs (agent.tau=0.005)", "samgs (agent.tau=0.02)"}
    page.locator("#key").click()
    page.get_by_role("option", name="agent.tau").click()
    choose_value(page, "0.005", "agent.tau: 0.005")
    page.wait_for_selector("#figure-score_curves .legend text[data-unformatted='ls']")
    assert {trace["name"] for trace in opened.traces("score_curves")} == {"ls", "samgs"}
    assert "where.agent.tau=0.005" in page.url
    link = page.url
    page.go_back()
    page.wait_for_selector("#figure-score_curves .legend text[data-unformatted='samgs (agent.tau=0.02)']")
    assert page.locator("#chips a").count() == 0
    page.goto(link)
    page.locator("#chips a", has_text="agent.tau: 0.005").wait_for()
    page.wait_for_selector("#figure-score_curves .legend text[data-unformatted='ls']")
    assert {trace["name"] for trace in opened.traces("score_curves")} == {"ls", "samgs"}


def test_groups_can_be_of_any_key(opened: Opened) -> None:
    opened.go("?view=curves&benchmark=three&group=agent.tau&aggregate=mean")
    assert {trace["name"] for trace in opened.traces("score_curves")} == {"agent.tau=0.005", "agent.tau=0.02"}


def test_a_figure_that_is_drawn_stays_when_those_below_it_arrive(opened: Opened) -> None:
    opened.page.add_init_script(
        """new MutationObserver(() => { window.first ??= document.querySelector("#figure-score_curves .main-svg"); })
            .observe(document, { subtree: true, childList: true });"""
    )
    opened.go("?view=curves&benchmark=three")
    opened.page.wait_for_selector("#figure-profiles .main-svg")
    assert opened.page.evaluate("window.first.isConnected"), "it was drawn again"


def test_a_running_runs_curve_grows_without_a_reload(opened: Opened, runs: Path) -> None:
    opened.go("?view=curves&benchmark=three&where.run=three_samgs_s1")
    (curve,) = opened.traces("score_curves")
    before = len(curve["x"])
    opened.page.evaluate("window.same = document.querySelector('#figure-score_curves .main-svg')")
    opened.page.locator("#part-summary td.number").first.wait_for()
    scores = opened.page.locator("#part-summary tbody").text_content()
    with (runs / "three_samgs_s1" / "evaluations.jsonl").open("a") as file:
        for task in ("reach-v3", "push-v3", "door-open-v3"):
            row = {"step": curve["x"][-1] + 100, "task": task, "episodes": 10, "successes_any": 9, "successes_last": 8}
            file.write(json.dumps(row) + "\n")
    for _ in range(100):
        (after,) = opened.traces("score_curves")
        if len(after["x"]) > before:
            break
        opened.page.wait_for_timeout(100)
    assert after["x"] == [*curve["x"], curve["x"][-1] + 100]
    assert opened.page.evaluate("window.same.isConnected"), "the figure is the same, zoom and all"
    expect(opened.page.locator("#part-summary tbody")).not_to_have_text(scores or "")


def test_every_figure_of_a_view_follows_a_run_that_never_rests(opened: Opened, runs: Path) -> None:
    """An answer brings one figure's numbers, and the others' come too (in which order: test_callbacks.py)."""
    opened.go("?view=curves&benchmark=three&where.run=three_samgs_s1")
    step = opened.traces("score_curves")[0]["x"][-1]
    drawn = {part: opened.heights(part) for part in ("score_curves", "profiles")}
    for count in range(200):
        with (runs / "three_samgs_s1" / "evaluations.jsonl").open("a") as file:
            for task in ("reach-v3", "push-v3", "door-open-v3"):
                row = {"step": step + count + 1, "task": task, "episodes": 10}
                file.write(json.dumps(row | {"successes_any": count % 9, "successes_last": 0}) + "\n")
        opened.page.wait_for_timeout(50)
        drawn = {part: heights for part, heights in drawn.items() if opened.heights(part) == heights}
        if not drawn:
            return
    raise AssertionError(f"still as they were: {list(drawn)}")


def test_the_table_sorts_by_a_click_and_the_address_says_so(opened: Opened) -> None:
    page = opened.go("?benchmark=three")
    page.locator("#runs th button", has_text="seed").click()
    page.locator("#runs th.seed[aria-sort=ascending]").wait_for()
    page.locator("#runs th button", has_text="seed").click()
    page.locator("#runs th.seed[aria-sort=descending]").wait_for()
    seeds = [row[3] for row in rows_of(page)]
    assert seeds == sorted(seeds, reverse=True) and len(set(seeds)) == 3 and "sort=-seed" in page.url


def test_light_and_dark_by_the_system_the_button_and_the_address(chromium: Any, server: Server) -> None:
    page = chromium.new_page(color_scheme="dark")
    theme = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    page.goto(server.url)
    page.wait_for_selector("#theme")
    assert theme() == "rgb(20, 24, 31)"
    page.locator("#theme").click()
    assert theme() == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_selector("#theme")
    assert theme() == "rgb(255, 255, 255)", "the button is remembered"
    page.goto(f"{server.url}?theme=dark")
    assert theme() == "rgb(20, 24, 31)"
    page.close()
