"""Following runs: only what was appended is read, nothing outside the roots is, and what is broken is named."""

from __future__ import annotations

import json
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.roots import Roots
from mtrl_surgery.reports.records import ReportError
from tests.reports.folders import TASKS, make_run
from tests.vision.tables.folders import make_run as make_vision_run


def follower(*roots: Path) -> Follower:
    own = Follower(Roots(roots), scoring_of, every=0.05)
    own.look()
    return own


def names(own: Follower) -> list[str]:
    return [seen.name for seen in own.runs()]


def append(run: Path, step: int, file: str = "evaluations") -> int:
    rows = [{"step": step, "task": task, "episodes": 4, "successes_any": 4, "successes_last": 1} for task in TASKS]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    with (run / f"{file}.jsonl").open("a") as opened:
        opened.write(text)
    return len(text)


def test_runs_come_grow_and_go(tmp_path: Path) -> None:
    first = make_run(tmp_path, status="running")
    make_run(tmp_path / "deep", "samgs")
    own = follower(tmp_path)
    assert names(own) == ["deep/three_samgs_s0", "three_ls_s0"] and own.progress() == (2, 2)
    versions = own.versions.copy()
    own.look()
    assert own.versions == versions, "nothing has changed"
    append(first, 300)
    own.look()
    assert own.versions - versions == {"evaluations": 1}
    assert own.runs()[1].record.frames["evaluations"]["step"].iloc[-1] == 300
    new = make_run(tmp_path, seed=5)
    shutil.rmtree(first)
    own.look()
    assert names(own) == ["deep/three_samgs_s0", new.name] and own.versions["runs"] > versions["runs"]


def test_an_ended_run_is_left_alone_until_it_is_resumed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    own = follower(tmp_path)
    append(run, 300)
    own.look()
    record = own.runs()[0].record
    assert record.frames["evaluations"]["step"].iloc[-1] == 200, "its manifest says that it has ended"
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "running", "finished": None, "resumed": [{}]}))
    own.look()
    assert record.frames["evaluations"]["step"].iloc[-1] == 300 and record.status == "running"


def test_more_files_are_read_when_a_view_wants_them(tmp_path: Path) -> None:
    make_run(tmp_path)
    own = follower(tmp_path)
    record = own.runs()[0].record
    assert record.frames["metrics"].empty and len(record.frames["evaluations"])
    own.want(("metrics", "conflicts"))
    assert own.progress() == (0, 1)
    own.look()
    assert len(record.frames["metrics"]) and len(record.frames["conflicts"]) and own.progress() == (1, 1)
    assert "returns" not in record.frames["evaluations"], "lists that nothing shows are not kept"


def test_a_long_run_that_is_followed_stays_thin(tmp_path: Path) -> None:
    run = make_run(tmp_path, status="running")
    own = follower(tmp_path)
    record = own.runs()[0].record
    for look in range(30):
        with (run / "health.jsonl").open("a") as file:
            file.writelines(f'{{"step":{1000 + 100 * look + row},"steps_per_s":1.0}}\n' for row in range(100))
        own.look()
    steps = record.frames["health"]["step"].tolist()
    assert len(steps) <= 2 * 240 + 100 and steps[-1] == 3999 and steps == sorted(steps)
    gaps = [after - before for before, after in pairwise(steps) if before >= 1000]
    assert len([step for step in steps if step < 2500]) > 50, "the beginning is not forgotten"
    assert max(gaps) < 100


def test_a_thread_follows_by_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path, status="running")
    own = Follower(Roots([tmp_path]), scoring_of, every=0.02)
    own.start()
    try:
        for step in (0, 300):
            until = time.monotonic() + 20
            while time.monotonic() < until and not (
                own.runs() and own.runs()[0].record.frames["evaluations"]["step"].iloc[-1] >= step
            ):
                time.sleep(0.01)
            if not step:
                append(run, 300)
        assert own.runs()[0].record.frames["evaluations"]["step"].iloc[-1] == 300 and not own.broken
    finally:
        own.stop()


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    good, bad = make_run(tmp_path, status="running"), make_run(tmp_path, seed=1)
    make_vision_run(tmp_path, "multidigits", "ls", lambda *_: 0.5)
    text = (bad / "manifest.json").read_text()
    (bad / "manifest.json").write_text("{")
    own = follower(tmp_path)
    assert len(own.runs()) == 2 and own.progress() == (2, 2)
    (said,) = own.remarks()
    assert said.startswith("left out: cannot read") and "manifest.json" in said
    (bad / "manifest.json").write_text(text)
    with (good / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    own.want(("metrics",))
    own.look()
    assert [seen.record.path for seen in own.runs()] == [own.roots.folders[0] / "multidigits_ls_s0", bad]
    (said,) = own.remarks()
    assert said.startswith(f"left out: {good / 'metrics.jsonl'}") and "is no JSON" in said
    before = own.versions.copy()
    own.look()
    assert own.versions == before, "what has not changed is not read again"
    lines = (good / "metrics.jsonl").read_text().splitlines(keepends=True)
    (good / "metrics.jsonl").write_text("".join(lines[:-1]))
    own.look()
    assert len(own.runs()) == 3 and not own.remarks()


def test_links_that_lead_outside_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    inside = make_run(root / "a")
    make_run(outside, "famo")
    (root / "elsewhere").symlink_to(outside)
    (root / "again").symlink_to(root / "a")
    stolen = make_run(root, seed=3)
    (stolen / "evaluations.jsonl").unlink()
    (stolen / "evaluations.jsonl").symlink_to(next(outside.iterdir()) / "evaluations.jsonl")
    own = follower(root)
    assert [seen.record.path for seen in own.runs()] == [inside]
    said = " ".join(own.remarks())
    assert f"{root / 'elsewhere'} leads outside" in said and "again" not in said
    assert f"{stolen / 'evaluations.jsonl'} is a link that leads outside" in said


def test_a_link_made_later_is_not_followed_either(tmp_path: Path) -> None:
    root = tmp_path / "root"
    run = make_run(root, status="running")
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"step":999,"task":"reach-v3","episodes":1,"successes_any":1,"successes_last":1}\n')
    own = follower(root)
    (run / "evaluations.jsonl").unlink()
    (run / "evaluations.jsonl").symlink_to(secret)
    own.look()
    assert not own.runs() and "leads outside" in own.remarks()[0]


def test_a_root_may_be_a_link_and_a_run_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(follower(tmp_path / "link")) == ["three_ls_s0"]
    assert names(follower(run)) == ["three_ls_s0"]
    other = make_run(tmp_path / "other")
    assert names(follower(tmp_path / "real", other.parent)) == ["other/three_ls_s0", "real/three_ls_s0"]


def test_a_root_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="nowhere: there is no such folder"):
        Roots([tmp_path / "nowhere"])
    with pytest.raises(ReportError, match="file: is no folder"):
        Roots([tmp_path / "file"])
    with pytest.raises(ReportError, match="name the folder of the runs"):
        Roots([])
