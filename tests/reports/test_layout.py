"""What makes figures and tables legible: room for the legend, square cells, digits, units."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrl_surgery.commands.report import _facts
from mtrl_surgery.reports.benchmarks import benchmarks
from mtrl_surgery.reports.figures.base import Panels, plain
from mtrl_surgery.reports.figures.conflicts import conflict_maps, what_methods_did
from mtrl_surgery.reports.figures.health import _marks
from mtrl_surgery.reports.figures.heats import digits_of, written
from mtrl_surgery.reports.figures.versus import method_against_method, task_differences
from mtrl_surgery.reports.records import open_runs
from mtrl_surgery.reports.report import Options, chapter
from mtrl_surgery.reports.report_tables import differences_table, runs_table, summary_table
from tests.reports.folders import make_run


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (2, 2), (4, 2), (3, 2)])
@pytest.mark.parametrize("methods", [2, 30, 70])
def test_a_legend_is_no_higher_than_its_panels(methods: int, panels: int, columns: int, tmp_path: Path) -> None:
    make_run(tmp_path)
    (group,) = benchmarks(open_runs(tmp_path)[0])[0][0].groups
    layout = Panels([str(place) for place in range(panels)], columns, 200, legend=[group] * methods).figure()["layout"]
    inner = layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    assert inner >= 20 * methods and layout["showlegend"]
    assert not Panels([None]).figure()["layout"]["showlegend"]


@given(st.lists(st.floats(-1e12, 1e12) | st.just(math.nan) | st.floats(-1e-9, 1e-9), max_size=8))
def test_numbers_have_six_digits_and_no_more(values: list[float]) -> None:
    found = plain(np.array(values))
    for value, near in zip(values, found, strict=True):
        if math.isnan(value):
            assert near is None
        elif abs(value) > 1e-15:
            assert near == pytest.approx(value, rel=5.1e-6) and len(json.dumps(near).strip("-")) <= 15
    assert plain(np.array([3, 4])) == [3, 4] and plain([math.inf, 0.1 + 0.2]) == [None, 0.3]


def test_small_numbers_are_not_zeros() -> None:
    assert digits_of([0.0, np.nan]) == 1 and digits_of([12.0, 30.0]) == 1
    assert digits_of([0.3, 0.6]) == 2 and digits_of([0.03, 0.0041, 0.02]) == 3 and digits_of([1e-9]) == 4
    cells = written([[0.0, 0.0032, np.nan], [-0.0041, -1e-9, 0.002]], signed=True)["text"]
    assert cells == [["0", "+0.0032", ""], ["-0.0041", "0", "+0.0020"]]


def test_a_logarithmic_axis_has_marks_within_it() -> None:
    assert _marks(0.004, 0.04)[:4] == [0.001, 0.002, 0.005, 0.01]
    assert sum(0.012 <= mark <= 0.045 for mark in _marks(0.012, 0.045)) == 3
    assert _marks(1e-4, 10.0) == [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0] and _marks(0.0101, 0.0102) == []


def test_a_map_of_few_tasks_is_square_with_its_numbers_in_it(tmp_path: Path) -> None:
    tasks = ("a", "b")
    for method in ("ls", "samgs", "pcgrad"):
        make_run(tmp_path, method, tasks=tasks, rates=((0.5, 0.5), (0.5, 0.5)))
    part = conflict_maps(benchmarks(open_runs(tmp_path)[0])[0][0])
    assert part is not None
    figure = part.figures["critic: cosine"]()
    assert len(figure["data"]) == 9
    for place, trace in enumerate(figure["data"]):
        number = "" if place == 0 else str(place + 1)
        assert trace["text"][0][0] == "" and float(trace["text"][0][1]) == pytest.approx(trace["z"][0][1], abs=0.05)
        x = figure["layout"][f"xaxis{number}"]
        assert x["scaleanchor"] == f"y{number}" and x["constrain"] == "domain"
    most = max(abs(trace["z"][0][1]) for trace in figure["data"])
    assert most <= figure["layout"]["coloraxis"]["cmax"] <= 1
    assert figure["layout"]["coloraxis"]["cmin"] == -figure["layout"]["coloraxis"]["cmax"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen groups, one of them the single-task baseline of the first task alone."""
    out = tmp_path_factory.mktemp("many")
    for place in range(13):
        make_run(out, {"name": "samgs", "gamma": place / 100})
    make_run(out, {"name": "stl", "task": 0})
    make_run(out, {"name": "ls"})
    return out


def test_many_methods_go_downwards_with_numbers(many: Path) -> None:
    (found,), _ = benchmarks(open_runs(many)[0])
    part = task_differences(found)
    assert part is not None
    (trace,) = part.figures["final"]()["data"]
    assert list(trace["x"]) == list(found.tasks) and len(trace["y"]) == 13 and "text" in trace
    layout = method_against_method(found).figures["final"]()["layout"]
    above, below = (layout[f"yaxis{number}"]["domain"] for number in ("", "2"))
    assert above[0] > below[1], "one matrix below the other"


def test_baselines_are_no_method(many: Path) -> None:
    (found,), _ = benchmarks(open_runs(many)[0])
    assert _facts([chapter(found, Options())]).startswith("15 runs of 14 methods and the single-task")


def test_the_methods_options_are_one_entry(many: Path) -> None:
    (found,), _ = benchmarks(open_runs(many)[0])
    table = differences_table(found)
    assert table is not None and [column.name for column in table.columns] == ["method", "method's options"]
    said = {row[0].value: row[1].value for row in table.sections[0].rows}
    assert said["ls"] == "-" and said["samgs (gamma=0.05)"] == "gamma=0.05" and said["stl"] == "-"


def test_runs_that_differ_in_their_methods_name_alone_differ_in_nothing(tmp_path: Path) -> None:
    for method in ("ls", "samgs"):
        make_run(tmp_path, method)
    assert differences_table(benchmarks(open_runs(tmp_path)[0])[0][0]) is None


@pytest.mark.parametrize(
    ("seconds", "unit", "shown"), [(7.25, "seconds", "7.2"), (35, "seconds", "35"), (1068, "minutes", "17.8"),
                                   (36000, "hours", "10.0")]
)  # fmt: skip
def test_times_have_a_unit_that_fits(seconds: float, unit: str, shown: str, tmp_path: Path) -> None:
    path = make_run(tmp_path)
    (path / "health.jsonl").write_text(json.dumps({"step": 1, "wall_s": seconds}) + "\n")
    (found,), _ = benchmarks(open_runs(tmp_path)[0])
    table = runs_table(found)
    names = [column.name for column in table.columns]
    assert unit in names and "lag" not in names and "steps/s" not in names, "what no run has is no column"
    assert f" {shown} " in table.text() and "lag" not in table.text()
    assert summary_table(found).columns[-1].name == f"{unit} a run"


def test_a_metric_that_is_null_everywhere_has_no_figure(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.update({key: None for key in row if key.endswith("alignment")})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = what_methods_did(benchmarks(open_runs(tmp_path)[0])[0][0])
    assert part is not None
    assert list(part.figures) == [f"{n}: {w}" for n in ("critic", "actor") for w in ("weight", "gradient length")]
