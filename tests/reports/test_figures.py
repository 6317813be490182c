"""Every figure is one that Plotly takes and matplotlib draws, and shows the numbers that are in the runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.reports.benchmarks import Benchmark, benchmarks
from mtrl_surgery.reports.figures.versus import ordered
from mtrl_surgery.reports.palette import COLOURS, DASHES, ORDER, style
from mtrl_surgery.reports.png import png
from mtrl_surgery.reports.published import metaworld
from mtrl_surgery.reports.records import ReportError, open_runs
from mtrl_surgery.reports.report import Chapter, Options, chapter, remarks
from mtrl_surgery.reports.report_tables import published_table
from tests.reports.folders import make_run
from tests.vision.tables.folders import make_run as make_vision_run

EVERYTHING = [
    "summary", "score_curves", "task_by_time", "task_bars", "tasks", "method_against_method", "task_differences",
    "profiles", "conflict_curves", "conflict_map", "conflict_pairs", "methods_did", "temperatures", "health", "runs",
    "differences",
]  # fmt: skip


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Chapter:
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        make_run(out, "ls", seed, agent={"tau": 0.005})
        make_run(out, {"name": "samgs", "gamma": 0.9}, seed, rates=((0.5, 0.5, 0.5), (1.0, 0.8, 0.6 + seed / 5)))
    make_run(out, {"name": "samgs", "gamma": 0.1}, 0, status="failed")
    (found,), _ = benchmarks(open_runs(out)[0])
    return chapter(found, Options(last=2))


def benchmark_of(path: Path) -> Benchmark:
    (found,), _ = benchmarks(open_runs(path)[0], scoring_of=scoring_of)
    return found


def test_a_curve_is_dotted_where_not_all_seeds_count(tmp_path: Path) -> None:
    """Two seeds, one ends a point earlier: the whole line stops there, and a dotted one goes on with the other."""
    make_run(tmp_path, "ls", 0, rates=((0.2, 0.2, 0.2), (0.4, 0.4, 0.4)))
    make_run(tmp_path, "ls", 1, rates=((0.4, 0.4, 0.4), (0.6, 0.6, 0.6), (0.8, 0.8, 0.8)))
    part = chapter(benchmark_of(tmp_path), Options()).parts["score_curves"]
    lines = [trace for trace in part.figures[""]()["data"] if trace.get("fill") is None]
    assert [trace["y"] for trace in lines] == [[0.3, 0.5, None], [None, 0.5, 0.8]]
    assert [trace["line"]["dash"] for trace in lines] == ["solid", "dot"]
    assert [trace.get("showlegend", True) for trace in lines] == [True, False]
    assert lines[1]["customdata"] == [2, 2, 1] and "dotted" in part.caption.lower()
    assert png(part.figures[""]()).startswith(b"\x89PNG")


def test_the_conflict_map_of_fifty_tasks_is_square_and_its_tasks_are_listed(tmp_path: Path) -> None:
    tasks = [f"a-task-with-a-long-name-{number}-v3" for number in range(50)]
    make_run(tmp_path, tasks=tasks, rates=((0.5,) * 50,))
    part = chapter(benchmark_of(tmp_path), Options()).parts["conflict_map"]
    assert "1 a-task-with-a-long-name-0, 2 a-task-with-a-long-name-1," in part.caption and "50 a-task" in part.caption
    figure = part.figures["critic: cosine"]()
    layout, panels = figure["layout"], figure["data"]
    assert layout["height"] < 450, "a third of the page is some 300 pixels wide: higher panels would be white space"
    assert layout["margin"]["l"] <= 40
    for axis in (layout["xaxis"], layout["yaxis"]):
        assert axis["ticktext"] == ["1", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50"]
        assert [int(text) - 1 for text in axis["ticktext"]] == axis["tickvals"]
    assert panels[0]["x"][:2] == ["a-task-with-a-long-name-0", "a-task-with-a-long-name-1"], "hovering names both"
    assert png(figure).startswith(b"\x89PNG")


def figures(own: Chapter) -> dict[str, dict[str, Any]]:
    return {f"{name} {label}": fig() for name, part in own.parts.items() for label, fig in part.figures.items()}


def test_a_report_of_everything_has_every_part(reported: Chapter) -> None:
    assert list(reported.order) == EVERYTHING
    assert list(reported.parts["conflict_map"].figures) == [
        f"{network}: {measure}"
        for network in ("critic", "actor")
        for measure in ("cosine", "magnitude similarity", "share of looks in conflict")
    ]


def test_plotly_takes_every_figure_and_json_has_no_nan(reported: Chapter) -> None:
    for name, figure in figures(reported).items():
        go.Figure(figure)  # raises for a property or a value that Plotly does not know
        json.dumps(figure, allow_nan=False)
        assert figure["data"], name


def test_a_method_has_one_colour_everywhere(reported: Chapter) -> None:
    for name, figure in figures(reported).items():
        for trace in figure["data"]:
            label = trace.get("name", "")
            if label.startswith(("ls", "samgs")):
                colour = trace["marker" if "marker" in trace else "line"]["color"]
                assert colour == style(label.split()[0]).colour, name


def test_every_registered_method_has_a_look_of_its_own() -> None:
    assert set(METHODS) <= set(ORDER), "name new methods at the end of ORDER"
    looks = [style(name) for name in ORDER]
    assert len(set(looks)) == len(ORDER) <= len(COLOURS) * len(DASHES)
    assert style("samgs", 1) != style("samgs") and style("samgs", 1).colour == style("samgs").colour
    assert style("someone's own") == style("someone's own")


def test_every_figure_is_drawn_as_png(reported: Chapter, tmp_path: Path) -> None:
    shown = {name: next(iter(part.figures.values()))() for name, part in reported.parts.items()}
    for name, figure in shown.items():
        path = tmp_path / "figure.png"
        path.write_bytes(png(figure, scale=0.5))
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[:2] == (figure["layout"]["height"] // 2, 480), name
        assert (pixels < 200).any(2).mean() > 0.005, f"{name}: nearly nothing is drawn"


def test_the_curves_numbers_are_the_runs_numbers(reported: Chapter) -> None:
    part = reported.parts["score_curves"]
    rows = part.numbers().set_index(["method", "step"])
    value, low, high, seeds = rows.loc[("samgs (gamma=0.9)", 200)]
    assert value == pytest.approx(np.mean([0.6, 0.8, 0.8, 0.8, 1.0, 1.0][1:-1])) and seeds == 2
    assert low <= value <= high
    assert np.isnan(rows.loc[("samgs (gamma=0.1)", 200), "low"]), "one seed has no band"
    (trace,) = [t for t in part.figures[""]()["data"] if t["name"] == "ls" and t.get("fill") is None]
    assert trace["x"] == [100, 200] and trace["y"][1] == pytest.approx(0.6)


def test_method_against_method_is_antisymmetric_and_best_first(reported: Chapter) -> None:
    part = reported.parts["method_against_method"]
    found = {row[:3]: row[3:] for row in part.numbers().itertuples(index=False, name=None)}
    for (how, one, other), (by, low, high, paired, surely, least, most) in found.items():
        back = found[how, other, one]
        np.testing.assert_allclose(back, (-by, -high, -low, paired, 1 - surely, 1 - most, 1 - least))
    assert found["final", "samgs (gamma=0.9)", "ls"][3] is True, "both have seeds 0 and 1"
    assert found["final", "samgs (gamma=0.1)", "ls"][3] is False
    assert ordered(reported.benchmark, "final", 2, "iqm")[0][0].label == "samgs (gamma=0.9)"


def test_the_summary_names_all_three(reported: Chapter) -> None:
    table = reported.tables["summary"]
    assert [column.name for column in table.columns[2:5]] == ["final", "mean of the last 2", "max over training"]
    best = table.sections[0].rows[0]
    assert best[0].value == "samgs (gamma=0.9)" and best[1].value == 2 and best[2].best
    assert best[2].interval is not None and best[2].interval[0] <= best[2].value <= best[2].interval[1]  # type: ignore[operator]
    assert f"{best[2].value:.3f} [" in table.text()


def test_what_a_reader_must_know_is_said(reported: Chapter) -> None:
    said = " ".join(remarks([reported], ["left out: x"]))
    assert "left out: x" in said and "1 failed" in said and "one seed only of samgs (gamma=0.1)" in said


def test_runs_without_maps_or_rows_make_a_smaller_report(tmp_path: Path) -> None:
    path = make_run(tmp_path, maps=False, rates=())
    for name in ("metrics", "health"):
        (path / f"{name}.jsonl").unlink(missing_ok=True)
    own = chapter(benchmark_of(tmp_path), Options())
    assert not {"conflict_map", "conflict_pairs", "health", "temperatures", "methods_did"} & set(own.order)
    assert own.tables["summary"].sections[0].rows[0][2].value is None
    for figure in figures(own).values():
        go.Figure(figure)


def test_supervised_runs_have_the_same_parts_but_reinforcement_learnings_own(tmp_path: Path) -> None:
    for method in ("ls", "famo"):
        for seed in (0, 1):
            values = lambda split, epoch, mode, name, seed=seed: 0.8 + 0.01 * epoch + 0.02 * seed  # noqa: E731
            make_vision_run(tmp_path, "multidigits", method, values, seed=seed, epochs=4)
    own = chapter(benchmark_of(tmp_path), Options())
    assert {"score_curves", "task_bars", "method_against_method", "profiles", "health"} <= set(own.parts)
    assert "temperatures" not in own.parts and "published" not in own.tables
    for figure in figures(own).values():
        go.Figure(figure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "sum"}, "aggregate=sum: choices: iqm, mean, median"),
        ({"last": 0}, "last=0 must be at least 1"),
        ({"confidence": 2.0}, "confidence=2.0 must be above 0 and below 1"),
        ({"published": "mt11"}, "published=mt11: choices: mt10, mt25, mt50, none"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReportError, match=re.escape(message)):
        Options(**options)


def test_published_numbers_stand_beside_ours_each_under_its_protocol(reported: Chapter) -> None:
    table = published_table(reported.benchmark, "mt10", last=2)
    assert table is not None
    titles = [section.title for section in table.sections]
    assert titles[0].startswith("our runs, final: metaworld") and "50 goals a task; 500 steps" in titles[0]
    assert any(title.startswith("mtrl: ") and "max over training" in title for title in titles)
    samgs = [row for section in table.sections for row in section.rows if row[0].value == "SAM-GS"]
    assert [(row[1].value, row[1].error) for row in samgs] == [(0.91, 0.018)]
    assert published_table(reported.benchmark, "three") is None


def test_every_published_number_has_a_protocol_a_source_and_is_a_rate() -> None:
    rows = [row for benchmark in metaworld.benchmarks() for row in metaworld.published(benchmark)]
    assert len(rows) > 80 and {row.protocol for row in rows} == set(metaworld.protocols())
    assert all(0 < row.success <= 1 and row.source and (row.error is None or row.error < 0.2) for row in rows)
    assert len({(row.benchmark, row.method, row.protocol, row.source) for row in rows}) == len(rows)
