"""What an answer brings of a view's part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.dashboard import callbacks
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.roots import Roots
from mtrl_surgery.dashboard.views import Views
from tests.reports.folders import TASKS, make_run


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(callbacks, "set_props", lambda place, numbers: found.append((place, numbers)))
    return found


def test_a_part_is_drawn_once_and_then_given_new_numbers(
    tmp_path: Path, sent: list[tuple[str, dict[str, Any]]]
) -> None:
    run = make_run(tmp_path, status="running")
    follower = Follower(Roots([tmp_path]), scoring_of)
    follower.look()
    views, search = Views(follower), "?view=curves"
    inside, hidden, stamp, _ = callbacks._part(views, "score_curves", search, {})
    assert not hidden and len(inside) == 3 and not sent
    same = callbacks._part(views, "score_curves", search, stamp)[:3]
    assert set(same) == {callbacks.no_update}, "nothing has changed"
    with (run / "health.jsonl").open("a") as file:
        file.write('{"step":300,"steps_per_s":1.0}\n')
    follower.look()
    assert set(callbacks._part(views, "score_curves", search, stamp)[:3]) == {callbacks.no_update}, "not its file"
    with (run / "evaluations.jsonl").open("a") as file:
        rows = ({"step": 300, "task": task, "episodes": 4, "successes_any": 4, "successes_last": 1} for task in TASKS)
        file.writelines(json.dumps(row) + "\n" for row in rows)
    follower.look()
    inside, _, after, _ = callbacks._part(views, "score_curves", search, stamp)
    ((place, numbers),) = sent
    assert inside is callbacks.no_update and place == "figure-score_curves" and after["frame"] == stamp["frame"]
    assert numbers["figure"]["data"][0]["x"] == [100, 200, 300]
    assert callbacks._part(views, "profiles", "?view=tasks", {})[0] is callbacks.no_update, "no part of this view"


def test_what_there_is_nothing_of_is_hidden_and_what_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_run(tmp_path, maps=False)
    follower = Follower(Roots([tmp_path]), scoring_of)
    follower.want(("metrics", "conflicts"))
    follower.look()
    views = Views(follower)
    assert callbacks._part(views, "conflict_map", "?view=conflicts", {})[:2] == (None, True)
    monkeypatch.setattr(views, "part", lambda *_: 1 / 0)
    inside, hidden, _, _ = callbacks._part(views, "conflict_map", "?view=conflicts", {})
    assert not hidden and inside.children == "conflict_map cannot be drawn: ZeroDivisionError: division by zero"
    assert "making conflict_map failed" in caplog.text
