"""Folders that a stranger made lie beside a good run: each is left out by name, and the good run is shown."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments_vision.__main__ import main
from experiments_vision.commands.report import scoring_of
from mtrl_surgery import load_runs
from mtrl_surgery.dashboard.app import make_app
from mtrl_surgery.dashboard.following import Follower
from mtrl_surgery.dashboard.roots import Roots
from mtrl_surgery.dashboard.views import VIEWS
from mtrl_surgery.reports.records import Record, ReportError, open_runs
from mtrl_surgery.runs.checkpoint import CheckpointError, load_checkpoint
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.reading import LONGEST_ROW, RunError
from tests.commands.conftest import Run, caller, run  # noqa: F401  # a fixture
from tests.reports.folders import make_run
from tests.runs.mangled import FOLDERS, HARMLESS, ROWS, copied
from tests.vision.tables.folders import make_run as make_vision_run


def street(folder: Path, ways: dict[str, Any]) -> dict[str, str]:
    """A good run, and the same with another seed once for each way to spoil it; the folders' names by the way."""
    make_run(folder / "runs")
    good = make_run(folder / "source", seed=1)
    named = {way: f"bad{number:03d}" for number, way in enumerate(ways)}
    for way, name in named.items():
        copied(good, folder / "runs" / name, ways[way])
    return named


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("strangers")
    return folder / "runs", street(folder, FOLDERS)


def missing(said: list[str], named: dict[str, str]) -> list[str]:
    """The ways that nobody was told of."""
    text = "\n".join(line for line in said if line.startswith("left out: ") and len(line) < 800)
    return [way for way, name in named.items() if f"/{name}" not in text and way != "a name that is no text"]


def test_a_report_leaves_them_out_by_name(run: Run, bad: tuple[Path, dict[str, str]], tmp_path: Path) -> None:  # noqa: F811
    runs, named = bad
    said = run("report", str(runs), f"out={tmp_path / 'report.html'}", "parts=false")
    assert said.code == 0 and "Traceback" not in said.err, said.err
    assert not missing(said.out.splitlines(), named)
    page = (tmp_path / "report.html").read_text()
    assert all(f"/{name}" in page for way, name in named.items() if way != "a name that is no text")
    assert "1 run of 1 method" in page, "the good one alone"
    assert "no UTF-8 text" in said.out


def test_what_is_strange_and_harmless_is_shown(run: Run, tmp_path: Path) -> None:  # noqa: F811
    street(tmp_path, HARMLESS)
    said = run("report", str(tmp_path / "runs"), f"out={tmp_path / 'report.html'}", "parts=false")
    assert said.code == 0 and "left out" not in said.out
    shown = (tmp_path / "report.html").read_text()
    assert all(f"bad{number:03d}" in shown for number in range(len(HARMLESS)))


def test_frames_leave_them_out_too(bad: tuple[Path, dict[str, str]]) -> None:
    frames = load_runs(bad[0])
    assert list(frames.runs.run) == [str(bad[0] / "three_ls_s0")] and not missing(list(frames.said), bad[1])


def asked(client: Any, search: str) -> Any:
    """An answer of the page's one callback."""
    (own,) = (one for one in client.get("/_dash-dependencies").get_json() if "sections.children" in one["output"])

    def given(places: list[dict[str, str]]) -> list[Any]:
        values = {("url", "search"): search}
        return [{**place, "value": values.get((place["id"], place["property"]))} for place in places]

    inputs = [given(one) if isinstance(one, list) else given([one])[0] for one in own["inputs"]]
    outputs = [
        {"id": name, "property": prop}
        for name, prop in (one.split("@")[0].rsplit(".", 1) for one in own["output"].strip(".").split("..."))
    ]
    body = {
        "output": own["output"],
        "outputs": outputs,
        "inputs": inputs,
        "state": given(own["state"]),
        "changedPropIds": ["url.search"],
    }
    return client.post("/_dash-update-component", json=body)


def test_a_dashboard_answers_and_leaves_them_out(bad: tuple[Path, dict[str, str]]) -> None:
    runs, named = bad
    follower = Follower(Roots([runs]), scoring_of)
    follower.want(("evaluations", "health", "metrics", "conflicts"))
    follower.look()
    assert [seen.name for seen in follower.runs()] == ["three_ls_s0"]
    assert not missing(follower.remarks(), named) and not follower.broken
    client = make_app(follower, host=None).server.test_client()
    assert client.get("/").status_code == 200
    for view in VIEWS:
        answer = asked(client, f"?view={view}")
        assert answer.status_code == 200, (view, answer.get_data(as_text=True)[-2000:])
        assert "three_ls_s0" in answer.get_data(as_text=True) or view != "overview"


def test_runs_that_go_bad_while_they_are_followed_take_nobody_along(tmp_path: Path) -> None:
    named = street(tmp_path, dict.fromkeys(FOLDERS, lambda path: None))
    follower = Follower(Roots([tmp_path / "runs"]), scoring_of)
    follower.want(("evaluations", "health", "metrics", "conflicts"))
    for path in (tmp_path / "runs").iterdir():
        text = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(text.replace('"finished"', '"running"', 1))
    follower.look()
    assert len(follower.runs()) == len(named) + 1
    for way, name in named.items():
        FOLDERS[way](tmp_path / "runs" / name)
    follower.look()
    assert [seen.name for seen in follower.runs()] == ["three_ls_s0"]
    assert not missing(follower.remarks(), named) and not follower.broken


def test_lines_without_end_are_refused_without_reading_them(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":300,"task":"' + b"x" * LONGEST_ROW + b'"}\n')
    with pytest.raises(ReportError, match=r"metrics.jsonl has a line of more than"):
        Record.open(path)


def test_a_long_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(tmp_path)
    whole = Record.open(path).frames
    monkeypatch.setattr("mtrl_surgery.runs.reading.LONGEST_ROW", 600)
    for name, frame in Record.open(path).frames.items():
        pd.testing.assert_frame_equal(frame, whole[name])
    assert set(whole) == {name.removesuffix(".jsonl") for name in ROWS}


def test_supervised_runs_are_left_out_of_tables_and_report(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def half(*_: Any) -> float:
        return 0.5

    make_vision_run(tmp_path / "runs", "multidigits", "ls", half, epochs=2)
    good = make_vision_run(tmp_path / "source", "multidigits", "ls", half, seed=1, epochs=2)
    ways = {way: spoil for way, spoil in FOLDERS.items() if ": env" not in way and way.split(":")[0] not in ROWS[::2]}
    ways |= {
        "another data set": lambda path: (path / "config.yaml").write_text("dataset: {name: mnist}\nmethod: {name: ls}")
    }
    named = {}
    for number, (way, spoil) in enumerate(ways.items()):
        with contextlib.suppress(FileNotFoundError):
            named[way] = f"bad{number:03d}"
            copied(good, tmp_path / "runs" / named[way], spoil)
    said = caller(main, capfd)("report", str(tmp_path / "runs"), f"out={tmp_path / 'report.html'}", "parts=false")
    assert said.code == 0 and "Traceback" not in said.err, said.err
    ignored = ("evaluations.jsonl: no successes", "a name that is no text", "evaluations.jsonl: task: null")
    unnamed = [way for way in missing(said.out.splitlines(), named) if way not in ignored]
    assert unnamed == []
    assert main(["table", str(tmp_path / "runs"), "out=", "mode=correct"]) == 0


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions count for everybody but root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_and_files_without_permission_are_named() -> None:
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        root.chmod(0o755)
        good, closed, secret = (make_run(root / "runs", seed=seed) for seed in range(3))
        closed.chmod(0)
        (secret / "evaluations.jsonl").chmod(0)
        with as_nobody():
            records, said = open_runs(root / "runs")
            follower = Follower(Roots([root / "runs"]), scoring_of)
            follower.look()
            with pytest.raises(RunError, match=f"cannot look into {closed}: Permission denied"):
                RunFolder.open(closed)
            with pytest.raises(CheckpointError, match="there is no such folder"):
                load_checkpoint(closed / "checkpoints" / "step-000000001")
        assert [record.path for record in records] == [good]
        assert [seen.record.path for seen in follower.runs()] == [good.resolve()]
        for lines in (said, follower.remarks()):
            assert len(lines) == 2 and all("Permission denied" in line for line in lines)
            assert str(closed) in " ".join(lines) and "evaluations.jsonl" in " ".join(lines)
    finally:
        closed.chmod(0o755)
        shutil.rmtree(root)


def test_a_folder_that_lost_its_files_is_named(tmp_path: Path) -> None:
    make_run(tmp_path)
    lost = make_run(tmp_path, seed=1)
    (lost / "config.yaml").unlink()
    os.symlink("nowhere", lost / "config.yaml")
    said = load_runs(tmp_path).said
    assert len(said) == 1 and str(lost) in said[0]
    json.dumps(said)
