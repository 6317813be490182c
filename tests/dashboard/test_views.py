"""What a view shows of which runs, and that nothing is made twice."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mtrl_surgery.commands.report_vision import judge
from mtrl_surgery.dashboard.components import section
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.roots import Roots
from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import VIEWS, Desk, Shown
from mtrl_surgery.dashboard.workshop import Workshop
from mtrl_surgery.reports.figures.base import Part
from mtrl_surgery.reports.palette import VALUES, style
from tests.reports.folders import TASKS, make_run
from tests.vision.tables.folders import make_run as make_vision_run


def desk(root: Path) -> Desk:
    follower = Follower(Roots([root]), judge)
    follower.want(("metrics", "conflicts"))
    follower.look()
    return Desk(follower)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        make_run(tmp_path, "ls", seed)
        make_run(tmp_path, "samgs", seed, agent={"tau": 0.02} if seed else {"tau": 0.005})
    make_vision_run(tmp_path, "multidigits", "famo", lambda split, epoch, mode, name: 0.5)
    return tmp_path


def labels(shown: Shown) -> set[str]:
    return {trace["name"] for trace in curves(shown)}


def curves(shown: Shown) -> list[dict[str, Any]]:
    """The lines of the learning curves."""
    (own,) = (own.content for own in shown.sections if own.name == "score_curves")
    assert isinstance(own, Part)
    return list(own.figures[""]["data"])


def test_every_view_of_every_benchmark_becomes_components(runs: Path) -> None:
    own = desk(runs)
    for benchmark in ("three", "multidigits net"):
        for view in list(VIEWS)[1:]:
            state = State(view=view, benchmark=benchmark)
            shown = own.show(state)
            made = [section(part, state).to_plotly_json() for part in shown.sections]
            assert [part["props"]["id"] for part in made] == [f"part-{name}" for name in VIEWS[view].parts]
            there = [part.name for part in shown.sections if part.content]
            assert there or shown.said, view
            assert not any(part.pending for part in shown.sections)
    assert "which compares methods" in own.show(State(view="methods", benchmark="multidigits net")).said[0]


def test_only_the_figure_that_is_asked_for_is_made(runs: Path) -> None:
    own = desk(runs)
    for asked, wanted in (("", "critic: cosine"), ("actor: magnitude similarity", "actor: magnitude similarity")):
        state = State(view="conflicts", benchmark="three", show={"conflict_map": asked} if asked else {})
        (part,) = (part for part in own.show(state).sections if part.name == "conflict_map")
        assert isinstance(part.content, Part) and part.figure == wanted and len(part.content.figures) == 6
        assert [name for name, figure in part.content.figures.items() if figure] == [wanted]


def test_the_benchmark_with_most_runs_is_first(runs: Path) -> None:
    assert desk(runs).show(State(view="curves")).title == "Curves: three"


def test_filters_and_groups(runs: Path) -> None:
    own = desk(runs)
    all_runs = State(view="curves", benchmark="three")
    assert labels(own.show(all_runs)) == {
        "ls (agent.tau=0.005)", "samgs (agent.tau=0.005)", "samgs (agent.tau=0.02)"
    }  # fmt: skip
    assert labels(own.show(all_runs.filtered("agent.tau", ["0.005"]))) == {"ls", "samgs"}
    assert labels(own.show(all_runs.filtered("method.name", ["ls"]).filtered("seed", ["1"]))) == {"ls"}
    nothing = own.show(all_runs.filtered("seed", ["7"]))
    assert not nothing.sections and nothing.said[0] == "No run passes the filters."
    by_tau = State(view="curves", benchmark="three", group=("agent.tau",))
    assert labels(own.show(by_tau)) == {"agent.tau=0.005", "agent.tau=0.02"}
    unknown = own.show(State(view="curves", benchmark="mt50"))
    assert unknown.said[0] == "There is no benchmark mt50; choices: multidigits net, three."


def test_choices_are_the_keys_in_which_runs_differ(runs: Path) -> None:
    choices = desk(runs).choices(State(view="curves", benchmark="three"))
    assert list(choices)[:2] == ["method.name", "seed"]
    assert choices["method.name"] == {"ls": 2, "samgs": 2} and choices["agent.tau"] == {"0.005": 3, "0.02": 1}
    assert "out" not in choices and "env.horizon" not in choices and list(choices)[-1] == "run"
    every = desk(runs).choices(State())
    assert every["model"] == {"net": 1, "(none)": 4}


def test_a_method_has_its_colour_in_the_table_and_in_every_figure(runs: Path) -> None:
    own = desk(runs)
    rows = own.show(State()).rows
    assert rows is not None
    assert {row["colour"] for row in rows if row["method"].startswith("samgs")} == {style("samgs").colour}
    drawn = curves(own.show(State(view="curves", benchmark="three")))
    assert {t["line"]["color"] for t in drawn if t["name"].startswith("samgs")} == {style("samgs").colour}
    mixed = curves(own.show(State(view="curves", benchmark="three", group=("agent.tau",))))
    assert {trace["line"]["color"] for trace in mixed} == {VALUES[0], VALUES[-1]}, "no method's"


def test_the_table_of_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "ls", total_steps=400, status="running")
    quiet = make_run(tmp_path, "samgs", status="running", total_steps=400)
    make_run(tmp_path, "famo", status="failed")
    make_vision_run(tmp_path, "nyuv2", "ls", lambda *_: 0.5, epochs=3)
    for file in quiet.iterdir():
        os.utime(file, (time.time() - 4000,) * 2)
    rows = desk(tmp_path).show(State()).rows
    assert rows is not None
    by_run = {row["run"]: row for row in rows}
    ls = by_run["three_ls_s0"]
    assert (ls["state"], ls["done"], ls["progress"], ls["rate"]) == ("running", 200, 0.5, 250.0)
    assert ls["left"] == pytest.approx(200 / 250) and ls["score"] == pytest.approx(0.6)
    assert by_run["three_samgs_s0"]["state"] == "silent" and by_run["three_samgs_s0"]["left"] is None
    assert by_run["three_famo_s0"]["state"] == "failed"
    assert by_run["nyuv2_ls_s0"]["score"] is None, "metrics of different units have no mean"


def test_only_figures_whose_files_changed_look_different(runs: Path) -> None:
    own = desk(runs)
    run = make_run(runs, "samgs", 7, status="running")
    own.follower.look()
    states = {view: State(view=view, benchmark="three") for view in ("curves", "conflicts")}
    before = {view: own.show(state) for view, state in states.items()}
    assert [s.print for s in own.show(states["curves"]).sections] == [s.print for s in before["curves"].sections]
    with (run / "evaluations.jsonl").open("a") as file:
        rows = ({"step": 300, "task": task, "episodes": 4, "successes_any": 4, "successes_last": 1} for task in TASKS)
        file.writelines(json.dumps(row) + "\n" for row in rows)
    own.follower.look()
    after = {view: own.show(state) for view, state in states.items()}
    assert [s.print for s in after["conflicts"].sections] == [s.print for s in before["conflicts"].sections]
    for old, new in zip(before["conflicts"].sections, after["conflicts"].sections, strict=True):
        assert old.content is new.content
    assert all(o.print != n.print for o, n in zip(before["curves"].sections, after["curves"].sections, strict=True))


def test_a_page_does_not_wait_for_what_takes_long() -> None:
    shop, go = Workshop(), threading.Event()
    made = shop.ask("place", 1, lambda: go.wait(20) and "first", 0.01)
    assert made.thing is None and not made.fresh
    assert not shop.ask("place", 2, lambda: pytest.fail("one at a time"), 0.01).fresh
    go.set()
    assert shop.ask("place", 1, lambda: "again", 20).thing == "first"
    second = threading.Event()
    made = shop.ask("place", 2, lambda: second.wait(20) and "second", 0.01)
    assert (made.thing, made.version, made.fresh) == ("first", 1, False), "the old one until the new one is there"
    second.set()
    assert shop.ask("place", 2, lambda: "again", 20).thing == "second"
    assert shop.ask("place", 2, lambda: "never", 0).thing == "second"


def test_a_figure_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made = Workshop().ask("place", 1, lambda: 1 / 0, 20)
    assert made.fresh and made.fault == "ZeroDivisionError: division by zero"
    assert "making place failed" in caplog.text
