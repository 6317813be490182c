"""A whole run: what may be asked, one process or several, the table, the files, the figures and the command."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments_vision.commands.toy import TOY, main, to_settings
from experiments_vision.errors import VisionError
from experiments_vision.toy import run as runs
from experiments_vision.toy.config import OURS, ToySettings, published, validate
from experiments_vision.toy.plots import draw, paths
from experiments_vision.toy.run import run_toy
from experiments_vision.toy.table import markdown, rows_csv, write_files
from mtrl_surgery.cli.composition import compose
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.folder import RunFolder


def short(**keys: object) -> ToySettings:
    settings = ToySettings(method=METHODS["ls"].config(), steps=60, lr=0.05, workers=1)
    for key, value in keys.items():
        setattr(settings, key, value)
    return settings


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("problem", "toy1", "unknown problem 'toy1'; did you mean 'toy1o'"),
        ("sign", "minus", "choices: code, paper"),
        ("options", "mine", "choices: published, defaults"),
        ("starts", "books", "choices: paper, code"),
        ("starts", [[1.0]], r"starts=\[\[1.0\]\]"),
        ("starts", [], "at least one point"),
        ("starts", [[0.0, float("nan")]], "finite"),
        ("steps", 0, "steps=0 must be at least 1"),
        ("every", 0, "every=0"),
        ("workers", 0, "workers=0"),
        ("seed", -1, "seed=-1"),
        ("lr", 0.0, "lr=0.0"),
        ("max_norm", -1.0, "max_norm=-1.0"),
        ("within", float("inf"), "within=inf"),
        ("scale", 0.0, "scale=0.0"),
        ("method", "samgs", "method='samgs' is no method; choices: all, "),
    ],
)
def test_what_makes_no_sense_is_named(key: str, value: object, says: str) -> None:
    with pytest.raises((VisionError, SettingsError), match=says):
        validate(short(**{key: value}))


def test_a_complementary_scale_is_below_one() -> None:
    with pytest.raises(VisionError, match=r"scale=1\.5"):
        validate(short(problem="aligned", scale=1.5))


def test_published_options_leave_what_was_given() -> None:
    settings = short()
    samgs = published(METHODS["samgs"].config(), settings, given=("gamma",))
    assert (samgs.similarity, samgs.gamma, samgs.beta2) == ("mean", 0.9, 0.99)  # type: ignore[attr-defined]
    assert published(METHODS["samgs"].config(), short(problem="toy2o")).beta2 == 0.9  # type: ignore[attr-defined]
    famo = published(METHODS["famo"].config(), short(problem="nashmtl"))
    assert famo.min_losses == pytest.approx([-2.1, -21.0])  # type: ignore[attr-defined]
    assert famo.compare_every == 1  # type: ignore[attr-defined]
    plain = METHODS["samgs"].config()
    assert published(plain, short(options="defaults")) == plain


def test_the_command_line_knows_what_was_given() -> None:
    words = ["problem=toy2o", "method=samgs", "method.gamma=0.9"]
    method = to_settings(compose(TOY, words), words).method
    assert (method.gamma, method.similarity, method.beta2) == (0.9, "mean", 0.9)
    assert to_settings(compose(TOY, ["~method"]), ["~method"]).method is None


@pytest.mark.slow
def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_FEW_STEPS", 0)
    before = dict(os.environ)
    alone, shared = (run_toy(short(method=METHODS["rlw"].config(), workers=workers)) for workers in (1, 2))
    assert dict(os.environ) == before
    np.testing.assert_array_equal(alone.runs[0].descent.theta_TSP, shared.runs[0].descent.theta_TSP)
    assert alone.runs[0].arrivals == shared.runs[0].arrivals
    monkeypatch.undo()
    other = run_toy(short(method=METHODS["rlw"].config(), seed=1))
    assert np.abs(other.runs[0].descent.theta_TSP - alone.runs[0].descent.theta_TSP).max() > 1e-3


@pytest.mark.slow
def test_no_worker_outlives_a_killed_run(tmp_path: Path) -> None:
    words = ["toy", "steps=2000000", "workers=2", "method=ls", f"out={tmp_path}"]
    run = subprocess.Popen([sys.executable, "-m", "experiments_vision", *words], stderr=subprocess.DEVNULL)
    workers = wait_for(lambda: [pid for pid in children(run.pid) if "spawn_main" in command(pid)], 2)
    run.kill()
    run.wait()
    wait_for(lambda: [pid for pid in workers if not command(pid)], len(workers))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    """Empty for a process that is gone, or gone but for its exit code."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_for(found: Callable[[], list[int]], count: int) -> list[int]:
    end = time.monotonic() + 120
    while len(now := found()) < count:
        assert time.monotonic() < end, now
        time.sleep(0.2)
    return now


def test_all_methods_make_one_table() -> None:
    result = run_toy(short(method=None, steps=3, starts=[[0.0, 10.0], [3.0, -8.3552]], within=4.0))
    assert [run.config.name for run in result.runs] == list(OURS)
    lines = markdown(result).splitlines()
    assert lines[0] == "| method | (0, 10) | (3, -8.3552) | optimum | Pareto set | x at the end |"
    (row,) = (line for line in lines if line.startswith("| mgda |"))
    assert row.split(" | ")[1:5] == ["off by 18", "0", "1 / 2", "1 / 2"]
    assert "samgs (similarity=mean, gamma=0.1)" in lines[-1]
    rows = list(csv.DictReader(io.StringIO(rows_csv(result))))
    assert len(rows) == 2 * len(OURS)
    by_name = {(row["method"], row["start_y"]): row for row in rows}
    assert float(by_name["mgda", "10"]["from_optimum"]) == pytest.approx(18.2, abs=0.3)
    assert by_name["mgda", "10"]["optimum_step"] == ""
    assert by_name["mgda", "-8.3552"]["optimum_step"] == "0"
    assert by_name["scaleinvls", "-8.3552"]["stopped"] == "0"


def test_the_table_judges_unbalanced_losses_by_the_pareto_set() -> None:
    result = run_toy(short(problem="nashmtl", steps=2, lr=1e-3, starts=[[3.0, -8.38]]))
    assert markdown(result).splitlines()[2] == "| ls | 0 | 0 / 1 | 1 / 1 | 3.0 to 3.0 |"


def test_a_method_that_refuses_the_losses_says_so() -> None:
    with pytest.raises(MethodError, match="problem=toy1o: gls: GeometricMean"):
        run_toy(short(method=METHODS["gls"].config()))


def test_files_hold_every_nth_step_and_the_last(tmp_path: Path) -> None:
    result = run_toy(short(steps=25, every=10))
    write_files(result, tmp_path)
    with np.load(tmp_path / "ls.npz", allow_pickle=False) as file:
        assert file["step_T"].tolist() == [0, 10, 20, 25]
        np.testing.assert_array_equal(file["theta_TSP"], result.runs[0].descent.theta_TSP[[0, 10, 20, 25]])
        losses_SK = result.problem.losses_and_jacobian(file["theta_TSP"][-1])[0]
        np.testing.assert_array_equal(file["losses_TSK"][-1], losses_SK)
        assert (file["weights_TSK"][:-1] == 0.5).all()
        assert file["stopped_S"].tolist() == [-1] * 7
    assert (tmp_path / "table.md").read_text() == markdown(result)
    assert (tmp_path / "table.csv").read_text() == rows_csv(result)


def test_figures_are_drawn(tmp_path: Path) -> None:
    result = run_toy(short(problem="toy2o"))
    draw(replace(result, runs=result.runs * 2), tmp_path)
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {
        "surfaces.png", "paths.png", "losses.png", "ls_paths.png", "ls_losses.png", "ls_curves.png",
    }  # fmt: skip
    assert len(paths(result, result.runs * 5).axes) == 8  # two rows of panels
    for file in files:
        with Image.open(file) as image:
            assert min(image.size) > 300
            colours = image.convert("RGB").getcolors(2**24)
            assert colours is not None
            assert len(colours) > 200, file


@pytest.mark.slow
def test_the_animation_moves(tmp_path: Path) -> None:
    draw(run_toy(short(gif=True)), tmp_path)
    with Image.open(tmp_path / "ls.gif") as image:
        assert getattr(image, "n_frames", 1) > 30  # frames in which nothing moves are merged


def test_the_command_leaves_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["method=mgda", "steps=20", "plot=false", f"out={tmp_path}", "starts=[[0,10]]", "max_norm=1"]
    assert main(words) == 0
    (path,) = tmp_path.iterdir()
    run = RunFolder.open(path)
    assert path.name.startswith("toy1o_mgda_s0_")
    assert run.manifest()["status"] == "finished"
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert (config["method"]["name"], config["max_norm"], config["starts"]) == ("mgda", 1.0, [[0, 10]])
    assert "| mgda | off by 18 |" in capsys.readouterr().out


def test_the_command_runs_all_methods_and_several(tmp_path: Path) -> None:
    words = ["steps=2", "plot=false", f"out={tmp_path}", "starts=[[0,10]]", "workers=1"]
    assert main(["method=all", *words]) == 0
    assert main(["-m", "method=ls,stl", *words]) == 0
    names = sorted(path.name.rsplit("_", 1)[0] for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert names == ["toy1o_all_s0", "toy1o_ls_s0", "toy1o_stl_s0"]


def test_the_command_compares_some_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["method=[samgs,imtlg]", "steps=2", "plot=false", f"out={tmp_path}", "starts=[[0,10]]"]
    assert main(words) == 0
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("toy1o_samgs-imtlg_s0_")
    assert sorted(file.name for file in path.glob("*.npz")) == ["imtl.npz", "samgs.npz"]
    assert "Options: samgs (similarity=mean, gamma=0.1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("methods", "method", "says"),
    [
        (["samgs", "cagard"], None, "unknown method 'cagard'; did you mean 'cagrad'"),
        (["imtl", "imtlg"], None, "each must be there once"),
        (["ls"], METHODS["ls"].config(), "beside method=ls"),
    ],
)
def test_methods_to_compare_are_known_and_differ(methods: list[str], method: object, says: str) -> None:
    with pytest.raises((VisionError, MethodError), match=says):
        validate(short(methods=methods, method=method))


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problem=toy3o", f"out={tmp_path}/runs"]) == 2
    assert "unknown problem 'toy3o'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arrive"), [("ls", 3), ("samgs", 7)])
def test_sam_gs_arrives_where_ls_is_stuck(name: str, arrive: int) -> None:
    """The SAM-GS paper's claim on toy1o, at its step size and number of steps."""
    settings = ToySettings(max_norm=1.0)
    settings.method = published(METHODS[name].config(), settings)
    (run,) = run_toy(settings).runs
    assert sum(arrival.optimum_step is not None for arrival in run.arrivals) == arrive
