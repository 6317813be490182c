"""What a view shows of which runs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.dashboard.components import drawn, sections
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.roots import Roots
from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import VIEWS, Views
from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.palette import VALUES, style
from tests.reports.folders import make_run
from tests.vision.tables.folders import make_run as make_vision_run


def views(root: Path) -> Views:
    follower = Follower(Roots([root]), scoring_of)
    follower.want(("metrics", "conflicts"))
    follower.look()
    return Views(follower)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        make_run(tmp_path, "ls", seed)
        make_run(tmp_path, "samgs", seed, agent={"tau": 0.02} if seed else {"tau": 0.005})
    make_vision_run(tmp_path, "multidigits", "famo", lambda split, epoch, mode, name: 0.5)
    return tmp_path


def labels(own: Views, state: State) -> set[str]:
    return {trace["name"] for trace in curves(own, state)}


def curves(own: Views, state: State) -> list[dict[str, Any]]:
    """The lines of the learning curves."""
    part = own.part("score_curves", state)
    assert isinstance(part, Part)
    return list(part.figures[""]()["data"])


def test_every_view_of_every_benchmark_becomes_components(runs: Path) -> None:
    own = views(runs)
    for benchmark in ("three", "multidigits net"):
        for view in list(VIEWS)[1:]:
            state = State(view=view, benchmark=benchmark)
            assert len(sections(view)) == len(VIEWS[view].parts)
            contents = {name: own.part(name, state) for name in VIEWS[view].parts}
            shown = {name: drawn(name, content, state) for name, content in contents.items() if content is not None}
            assert bool(shown) == ((benchmark, view) not in NOTHING)
            for name, part in shown.items():
                assert part.place.endswith(f"-{name}") and part.numbers and part.frame


NOTHING = {("multidigits net", view) for view in ("methods", "conflicts", "config")}


def test_only_the_figure_that_is_asked_for_is_made(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = views(runs)
    for asked, wanted in (("", "critic: cosine"), ("actor: magnitude similarity", "actor: magnitude similarity")):
        state = State(view="conflicts", benchmark="three", show={"conflict_map": asked} if asked else {})
        part = own.part("conflict_map", state)
        assert isinstance(part, Part) and len(part.figures) == 6
        others = {name: lambda: pytest.fail("nobody sees it") for name in part.figures if name != wanted}
        drawn("conflict_map", replace(part, figures={**part.figures, **others}), state)


def test_the_benchmark_with_most_runs_is_first(runs: Path) -> None:
    assert views(runs).benchmark(State(view="curves")).name == "three"  # type: ignore[union-attr]


def test_filters_and_groups(runs: Path) -> None:
    own = views(runs)
    all_runs = State(view="curves", benchmark="three")
    assert labels(own, all_runs) == {
        "ls (agent.tau=0.005)", "samgs (agent.tau=0.005)", "samgs (agent.tau=0.02)"
    }  # fmt: skip
    assert labels(own, all_runs.filtered("agent.tau", ["0.005"])) == {"ls", "samgs"}
    assert labels(own, all_runs.filtered("method.name", ["ls"]).filtered("seed", ["1"])) == {"ls"}
    nothing = all_runs.filtered("seed", ["7"])
    assert own.part("summary", nothing) is None and own.remarks(nothing)[0] == "No run passes the filters."
    by_tau = State(view="curves", benchmark="three", group=("agent.tau",))
    assert labels(own, by_tau) == {"agent.tau=0.005", "agent.tau=0.02"}
    assert (
        own.remarks(State(view="curves", benchmark="mt50"))[0]
        == "There is no benchmark mt50; choices: multidigits net, three."
    )


def test_choices_are_the_keys_in_which_runs_differ(runs: Path) -> None:
    choices = views(runs).choices(State(view="curves", benchmark="three"))
    assert list(choices)[:2] == ["method.name", "seed"]
    assert choices["method.name"] == {"ls": 2, "samgs": 2} and choices["agent.tau"] == {"0.005": 3, "0.02": 1}
    assert "out" not in choices and "env.horizon" not in choices and list(choices)[-1] == "run"
    every = views(runs).choices(State())
    assert every["model"] == {"net": 1, "(none)": 4}


def test_a_method_has_its_colour_in_the_table_and_in_every_figure(runs: Path) -> None:
    own = views(runs)
    rows = own.rows(State())
    assert {row["colour"] for row in rows if row["method"].startswith("samgs")} == {style("samgs").colour}
    drawn = curves(own, State(view="curves", benchmark="three"))
    assert {t["line"]["color"] for t in drawn if t["name"].startswith("samgs")} == {style("samgs").colour}
    mixed = curves(own, State(view="curves", benchmark="three", group=("agent.tau",)))
    assert {trace["line"]["color"] for trace in mixed} == {VALUES[0], VALUES[-1]}, "no method's"


def test_the_table_of_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "ls", total_steps=400, status="running")
    quiet = make_run(tmp_path, "samgs", status="running", total_steps=400)
    make_run(tmp_path, "famo", status="failed")
    make_vision_run(tmp_path, "nyuv2", "ls", lambda *_: 0.5, epochs=3)
    for file in quiet.iterdir():
        os.utime(file, (time.time() - 4000,) * 2)
    rows = views(tmp_path).rows(State())
    by_run = {row["run"]: row for row in rows}
    ls = by_run["three_ls_s0"]
    assert (ls["state"], ls["done"], ls["progress"], ls["rate"]) == ("running", 200, 0.5, 250.0)
    assert ls["left"] == pytest.approx(200 / 250) and ls["score"] == pytest.approx(0.6)
    assert by_run["three_samgs_s0"]["state"] == "silent" and by_run["three_samgs_s0"]["left"] is None
    assert by_run["three_famo_s0"]["state"] == "failed"
    assert by_run["nyuv2_ls_s0"]["score"] is None, "metrics of different units have no mean"
