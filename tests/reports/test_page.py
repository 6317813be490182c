"""The page: whole, self-contained, and safe with whatever a run is called."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mtrl_surgery.reports.benchmarks import benchmarks
from mtrl_surgery.reports.html_report import page
from mtrl_surgery.reports.records import ReportError, open_runs
from mtrl_surgery.reports.report import Chapter, Options, chapter
from mtrl_surgery.reports.writing import write_parts
from tests.reports.folders import make_run

NASTY = "</script><script>document.title='hacked'</script>{{NAV}}"


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def chapters(tmp_path_factory: pytest.TempPathFactory) -> list[Chapter]:
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        make_run(out, "ls", seed)
        make_run(out, {"name": "samgs", "note": NASTY if seed else "plain"}, seed)
    make_run(out / "other", env="two", tasks=("a", "b"), rates=((0.1, 0.2),))
    return [chapter(own, Options()) for own in benchmarks(open_runs(out)[0])[0]]


@pytest.fixture(scope="module")
def text(chapters: list[Chapter]) -> str:
    return page("A <title>", "facts & more", chapters, ["a <remark>"])


def test_the_page_loads_nothing_and_a_policy_forbids_it(text: str) -> None:
    elements = Elements(text).found
    assert not [attributes for _, attributes in elements if "src" in attributes]
    assert not [attributes for tag, attributes in elements if tag in ("link", "iframe", "object", "img", "base")]
    policy = next(a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy
    assert all((a.get("href") or "#").startswith("#") for tag, a in elements if tag == "a")


def test_plotly_is_in_it_once(text: str) -> None:
    assert text.count("plotly.js v") == 1 and len(text) > 1_000_000
    assert len(Elements(text).scripts) == 3


def test_every_figure_has_its_place_and_every_link_its_target(text: str, chapters: list[Chapter]) -> None:
    parser = Elements(text)
    figures = json.loads(parser.scripts[0])
    ids = [a["id"] for _, a in parser.found if "id" in a]
    assert len(ids) == len(set(ids))
    places = {a["id"] for _, a in parser.found if a.get("class") == "figure"}
    assert places == set(figures)
    assert len(figures) == sum(len(part.figures) for own in chapters for part in own.parts.values())
    links = [str(a["href"]).removeprefix("#") for tag, a in parser.found if tag == "a"]
    assert set(links) <= set(ids) and len(links) == sum(len(own.order) + 1 for own in chapters)


def test_what_runs_are_called_cannot_break_out(text: str) -> None:
    assert "A &lt;title&gt;" in text and "a &lt;remark&gt;" in text and "facts &amp; more" in text
    assert NASTY not in text and "<script>document.title" not in text
    assert "{{NAV}}" in text, "a label that looks like a place to fill stays what it is"


def test_without_plotly_the_extra_is_named(chapters: list[Chapter], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    with pytest.raises(ReportError, match=r"-m pip install -e '.*\[report\]'"):
        page("t", "f", chapters, [])


def test_parts_are_files(chapters: list[Chapter], tmp_path: Path) -> None:
    count = write_parts(chapters, tmp_path / "parts", pictures=False)
    files = sorted(path for path in (tmp_path / "parts").rglob("*") if path.is_file())
    assert len(files) == count and {path.parent.name for path in files} == {"three", "two"}
    own = tmp_path / "parts" / "three"
    assert (own / "summary.tex").read_text().startswith(r"\begin{table}")
    lines = (own / "task_bars.csv").read_text().splitlines()
    assert lines[0] == "method,task,score,low,high,successes,episodes" and len(lines) == 1 + 3 * 3
    curves = (own / "score_curves.csv").read_text()
    assert "nan" not in curves and ",," in curves, "what is not known is empty"


@pytest.mark.browser
def test_chromium_draws_it_whole_and_without_a_complaint(text: str, tmp_path: Path, chromium: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1000, "height": 2000})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda own: said.append(own.text) if own.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{path.as_uri()}?theme=dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark" and page.title() == "A <title>"
    figures = page.locator(".figure:visible").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    assert len(figures) > 10
    wide = "[...document.querySelectorAll('[id$=summary] .scroll')].map(own => own.scrollWidth - own.clientWidth)"
    assert set(page.evaluate(wide)) == {0}, "a summary is wider than the page"
    scrolled = "[...document.querySelectorAll('.legend .scrollbar')].filter(own => own.getBBox().height > 0).length"
    assert page.evaluate(scrolled) == 0, "a legend is higher than its figure"
    page.locator("#theme").click()
    assert page.evaluate(theme) == "light"
    page.close()
    assert not said
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}


@pytest.mark.browser
def test_on_paper_every_figure_is_there(text: str, tmp_path: Path, chromium: Any) -> None:
    """Printed from the top of the page in dark mode: all figures and variants, within the paper, in its own colours."""
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1000, "height": 800})
    page.goto(f"{path.as_uri()}?theme=dark")
    page.locator(".main-svg").first.wait_for()
    figures = page.locator(".figure").count()
    drawn = "[...document.querySelectorAll('.figure')].filter(own => own.querySelector('.main-svg')).length"
    assert 0 < page.evaluate(drawn) < figures, "a long report is drawn as it is scrolled to"
    seen = """addEventListener("beforeprint", () => { window.seen = {
        drawn: [...document.querySelectorAll(".figure")].filter(own => own.querySelector(".main-svg")).length,
        widest: Math.max(...[...document.querySelectorAll(".main-svg")].map(own => Number(own.getAttribute("width")))),
        theme: document.documentElement.dataset.theme, folded: document.querySelectorAll("details:not([open])").length,
    }; })"""
    page.evaluate(seen)
    assert len(page.pdf(format="A4", margin={"left": "10mm", "right": "10mm"})) > 10_000
    paper = page.evaluate("window.seen")
    assert paper == {"drawn": figures, "widest": 690, "theme": "light", "folded": 0}
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "the screen is as it was"
    page.close()


def test_published_numbers_are_folded(tmp_path: Path) -> None:
    make_run(tmp_path, "ls", env="mt10")
    own = chapter(benchmarks(open_runs(tmp_path)[0])[0][0], Options())
    whole = page("t", "f", [own], [])
    folded = whole[whole.index("<details>") : whole.index("</details>")]
    assert "Published numbers" in folded and folded.count("<tr>") > 10
    assert whole.count("<details>") == 1
