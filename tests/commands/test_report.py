"""`report`: from run folders to one HTML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments_vision.__main__ import main as supervised
from mtrl_surgery.__main__ import main as mtrl_surgery
from tests.commands.conftest import Run, caller
from tests.reports.folders import make_run
from tests.vision.tables.folders import make_run as make_vision_run


def test_a_real_run_is_reported(run: Run, tmp_path: Path):
    small = ("total_steps=200", "agent.warmup_steps=50", "evaluation.every=100", "evaluation.final_episodes=1")
    trained = run(
        "train", "experiment=smoke", "method=samgs", "logger.console=false", f"out={tmp_path / 'runs'}", *small
    )
    assert trained.code == 0, trained.err
    said = run("report", str(tmp_path / "runs"), f"out={tmp_path / 'report.html'}", "png=false")
    assert said.code == 0, said.err
    text = (tmp_path / "report.html").read_text()
    for part in ("Learning curves", "Tasks over time", "Conflict over training", "Temperatures", "Run health"):
        assert part in text, part
    assert "samgs" in said.out and (tmp_path / "report" / "summary.csv").exists()


def test_both_kinds_of_runs_have_a_chapter_each(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    make_run(runs, "ls")
    make_run(runs, "samgs")
    for method in ("ls", "famo"):
        make_vision_run(runs, "multidigits", method, lambda split, epoch, mode, name: 0.9 + 0.001 * epoch)
    alone = run("report", str(runs), f"out={tmp_path / 'alone.html'}", "parts=false")
    assert alone.code == 0 and "a supervised run: python -m experiments_vision report" in alone.out
    said = caller(supervised, capfd)(
        "report", str(runs), f"out={tmp_path / 'deep' / 'r.html'}", "png=false", "title=Both: of them", "published=mt10"
    )
    assert said.code == 0 and "left out" not in said.out, said.err
    text = (tmp_path / "deep" / "r.html").read_text()
    assert '<h2 class="chapter" id="three">' in text and '<h2 class="chapter" id="multidigits-net">' in text
    assert "<title>Both: of them</title>" in text and "Delta-m" in text and "CARE (arXiv 2102.06177)" in text
    assert (tmp_path / "deep" / "r" / "multidigits_net" / "paper_results.tex").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such file or folder under"),
        (["runs", "success=ever"], "unknown success 'ever'; choices: any, last"),
        (["runs", "out=report.pdf"], "out=report.pdf: must end in .html"),
        (["runs", "last=0"], "last=0 must be at least 1"),
        (["runs", "lasst=1"], "lasst"),
        (["out=r.html"], "name run folders"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs")
    said = run("report", *words)
    assert said.code == 2 and message in said.err and "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]):
    assert mtrl_surgery(["report", "--help"]) == 0
    text = capsys.readouterr().out
    for key in ("out", "title", "success", "aggregate", "last", "confidence", "published", "png"):
        assert f"\n  {key}=" in text
