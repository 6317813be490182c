"""`table` on run folders: epochs, seeds, baselines, what is left out and why, and what is written."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments_vision.__main__ import main
from experiments_vision.delta import BASELINES
from experiments_vision.objectives.registry import judge
from experiments_vision.tables.collect import Wanted, tables
from experiments_vision.tables.groups import find_runs, group
from experiments_vision.tables.modes import result
from mtrl_surgery.reports.records import Record
from tests.vision.tables.folders import Numbers, make_run


def constant(value: float) -> Numbers:
    return lambda split, epoch, mode, metric: value


def worse(dataset: str, share: float) -> Numbers:
    """The published baseline, worse by a share in every metric: Delta-m = 100 share."""
    sign = {spec.name: -1 if spec.higher_is_better else 1 for spec in judge(dataset).metrics}
    return lambda split, epoch, mode, metric: BASELINES[dataset][metric] * (1 + sign[metric] * share)


def written(out: Path, name: str) -> dict[str, dict[str, str]]:
    with open(out / f"{name}.csv", encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file) if row["section"] == "our runs"}


def run_table(*words: str) -> int:
    return main(["table", *words])


def test_paper_mode_is_the_last_ten_epochs_of_the_test_split(tmp_path: Path) -> None:
    path = make_run(tmp_path, "nyuv2", "ls", lambda split, epoch, mode, metric: epoch + (mode == "pooled"))
    run = Record.open(path)
    found = result(run, judge("nyuv2"), "paper")
    assert not isinstance(found, str)
    assert set(found.values.values()) == {sum(range(2, 12)) / 10} and found.notes == ()


def test_fewer_than_ten_epochs_are_said(tmp_path: Path) -> None:
    run = Record.open(make_run(tmp_path, "multidigits", "ls", lambda s, epoch, m, n: epoch / 10, epochs=3))
    found = result(run, judge("multidigits"), "paper")
    assert not isinstance(found, str) and found.values["accuracy_left"] == pytest.approx(0.1)
    assert found.notes == ("the mean of 3 evaluated epochs: there are no 10",)


@pytest.mark.parametrize("dataset", ["celeba", "qm9"])
def test_papers_with_a_validation_split_choose_by_it(tmp_path: Path, dataset: str) -> None:
    good = 1 if dataset == "celeba" else -1

    def numbers(split: str, epoch: int, mode: str, metric: str) -> float:
        best = 4 if split == "val" else 8  # the test split would choose another epoch
        return BASELINES[dataset][metric] * (1 - good * 0.01 * abs(epoch - best)) + 1e-3 * (mode == "pooled")

    run = Record.open(make_run(tmp_path, dataset, "ls", numbers))
    found = result(run, judge(dataset), "paper")
    assert not isinstance(found, str)
    assert found.values == pytest.approx({name: base * (1 - good * 0.04) for name, base in BASELINES[dataset].items()})


def test_correct_mode_is_pooled_at_the_best_validation_epoch(tmp_path: Path) -> None:
    def numbers(split: str, epoch: int, mode: str, metric: str) -> float:
        if split == "val":
            return 0.9 - 0.01 * abs(epoch - (3 if mode == "pooled" else 7))
        return epoch / 100 + (0.5 if mode == "pooled" else 0)

    run = Record.open(make_run(tmp_path, "multidigits", "ls", numbers))
    found = result(run, judge("multidigits"), "correct")
    assert not isinstance(found, str) and set(found.values.values()) == {0.53} and found.notes == ()


def test_without_a_validation_split_the_last_epoch_counts_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", "nyuv2", "ls", lambda s, epoch, m, metric: epoch / 100, splits=("test",))
    assert run_table(str(tmp_path / "runs"), "mode=correct", f"out={tmp_path / 'out'}") == 0
    assert "no validation split: the last epoch, chosen by nothing" in capsys.readouterr().out
    assert float(written(tmp_path / "out", "nyuv2_net_correct_results")["ls"]["mIoU"]) == pytest.approx(11)


def test_a_celeba_run_without_validation_is_not_in_the_papers_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_run(tmp_path, "celeba", "ls", constant(0.5), splits=("test",), epochs=1)
    assert run_table(str(path), "mode=paper", "out=") == 0
    text = capsys.readouterr().out
    assert f"{path} has no validation split to choose an epoch by; it is not in the table." in text


def test_seeds_options_ranks_and_deltas(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed, share in enumerate((0.1, 0.2, 0.6)):
        make_run(runs, "nyuv2", "ls", worse("nyuv2", share), seed=seed, seconds=2.0)
        make_run(runs, "nyuv2", {"name": "cagrad", "c": 0.4, "rescale": 1}, worse("nyuv2", share / 2), seed=seed)
    make_run(runs, "nyuv2", {"name": "cagrad", "c": 0.8, "rescale": 1}, worse("nyuv2", -0.05), seconds=6.0)
    assert run_table(*(str(path) for path in runs.iterdir()), f"out={tmp_path / 'out'}") == 0
    rows = written(tmp_path / "out", "nyuv2_net_paper_results")
    assert list(rows) == ["cagrad (c=0.8)", "cagrad (c=0.4)", "ls"]  # sorted by Delta-m; rescale differs nowhere
    assert [rows[name]["seeds"] for name in rows] == ["1", "3", "3"]
    assert float(rows["ls"]["Delta-m"]) == pytest.approx(30)
    assert float(rows["ls"]["Delta-m (standard error)"]) == pytest.approx(math.sqrt(0.07 / 3) * 100)
    assert float(rows["ls"]["Delta-m by task"]) == pytest.approx(30)
    assert float(rows["cagrad (c=0.8)"]["Delta-m"]) == pytest.approx(-5)
    assert (
        rows["cagrad (c=0.8)"]["Delta-m (standard error)"] == "nan"
        or not rows["cagrad (c=0.8)"]["Delta-m (standard error)"]
    )
    assert [float(rows[name]["mean rank"]) for name in rows] == [1, 2, 3]
    assert [float(rows[name]["time/ls"]) for name in rows] == [3, 1, 1]
    assert float(rows["ls"]["mIoU"]) == pytest.approx(38.30 * 0.7)
    deltas = written(tmp_path / "out", "nyuv2_net_paper_delta")
    assert float(deltas["ls"]["Rel Err"]) == pytest.approx(30)
    assert float(deltas["cagrad (c=0.4)"]["task normal"]) == pytest.approx(15)
    for suffix in ("md", "tex"):
        assert "cagrad (c=0.8)" in (tmp_path / "out" / f"nyuv2_net_correct_results.{suffix}").read_text()


def test_by_metric_and_by_task_differ(tmp_path: Path) -> None:
    def numbers(split: str, epoch: int, mode: str, metric: str) -> float:
        return BASELINES["nyuv2"][metric] * (1.1 if "angle" in metric else 1.0)

    make_run(tmp_path / "runs", "nyuv2", "ls", numbers)
    assert run_table(str(tmp_path / "runs"), f"out={tmp_path / 'out'}") == 0
    row = written(tmp_path / "out", "nyuv2_net_paper_results")["ls"]
    assert float(row["Delta-m"]) == pytest.approx(20 / 9)
    assert float(row["Delta-m by task"]) == pytest.approx((20 / 5) / 3)


def test_single_task_runs_are_the_baseline_of_multidigits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"

    def single(task: int, value: float) -> Numbers:
        names = ("accuracy_left", "accuracy_right")
        return lambda s, e, m, metric: value if metric == names[task] else 0.1  # the other task was never trained

    for seed, more in enumerate((-0.1, 0.1)):
        make_run(runs, "multidigits", {"name": "stl", "task": 0}, single(0, 0.8 + more), seed=seed)
        make_run(runs, "multidigits", {"name": "ls"}, constant(0.6), seed=seed)
    assert run_table(str(runs), "mode=paper", "out=") == 0
    text = capsys.readouterr().out
    assert "There is no run with method=stl for method.task=1 (right), so there is no Delta-m." in text
    make_run(runs, "multidigits", {"name": "stl", "task": 1}, single(1, 0.5))
    assert run_table(str(runs), "mode=paper", f"out={tmp_path / 'out'}") == 0
    rows = written(tmp_path / "out", "multidigits_net_paper_results")
    assert list(rows) == ["stl", "ls"]
    assert float(rows["stl"]["Left"]) == pytest.approx(80) and float(rows["stl"]["Right"]) == pytest.approx(50)
    assert rows["stl"]["mean rank"] == "" and float(rows["ls"]["mean rank"]) == 1
    assert float(rows["ls"]["Delta-m"]) == pytest.approx((25 - 20) / 2)
    assert float(rows["ls"]["mean"]) == pytest.approx(60)
    assert float(written(tmp_path / "out", "multidigits_net_paper_delta")["ls"]["Left"]) == pytest.approx(25)


def test_our_own_baseline_for_a_published_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in range(2):
        make_run(tmp_path / "runs", "cityscapes", {"name": "stl", "task": task}, worse("cityscapes", 0.5))
    make_run(tmp_path / "runs", "cityscapes", "ls", worse("cityscapes", 0.5))
    words = (str(tmp_path / "runs"), "baseline=runs", "mode=paper", f"out={tmp_path / 'out'}")
    assert run_table(*words) == 0
    assert float(written(tmp_path / "out", "cityscapes_net_paper_results")["ls"]["Delta-m"]) == pytest.approx(0)
    assert "against the published single-task results, not ours" in capsys.readouterr().out


def test_unfinished_rowless_and_twin_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = make_run(tmp_path, "multidigits", "ls", constant(0.5))
    twin = make_run(tmp_path, "multidigits", "ls", constant(0.9))
    stopped = make_run(tmp_path, "multidigits", "samgs", constant(0.5), status="running")
    empty = make_run(tmp_path, "multidigits", "upgrad", constant(0.5), splits=("val",))
    half = make_run(tmp_path, "multidigits", "famo", constant(0.5))
    lines = (half / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (half / "evaluations.jsonl").write_text("".join(lines[:-1]))
    lost = make_run(tmp_path, "multidigits", {"name": "stl", "task": 5}, constant(0.5))
    assert run_table(str(tmp_path), "mode=paper", "out=") == 0
    text = capsys.readouterr().out
    assert f"{twin} has the configuration and seed of {good}; it is not in the table." in text
    assert f"{stopped} is not finished; it is not in the table." in text
    assert f"{empty} has no evaluation of the test split; it is not in the table." in text
    assert f"{half} lacks rows of the test split: batches/accuracy_right; it is not in the table." in text
    assert f"{lost} method.task=5: multidigits has tasks 0 to 1; it is not in the table." in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("ls")] == [["ls", "50.00"]]


def test_a_diverged_seed_shows_nan_and_ranks_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    make_run(runs, "multidigits", "ls", constant(0.5))
    make_run(runs, "multidigits", "famo", constant(0.9), seed=0)
    make_run(runs, "multidigits", "famo", lambda split, *_: 0.5 if split == "val" else math.nan, seed=1)
    make_run(runs, "multidigits", "famo", constant(math.nan), seed=2)
    assert run_table(str(runs), "mode=correct", f"out={tmp_path / 'out'}") == 0
    rows = written(tmp_path / "out", "multidigits_net_correct_results")
    assert rows["famo"]["Left"] == "nan" and (rows["ls"]["mean rank"], rows["famo"]["mean rank"]) == ("1.0", "2.0")
    text = capsys.readouterr().out
    assert "nan: no valid value of accuracy_left, accuracy_right" in text and rows["famo"]["seeds"] == "3"
    assert "no epoch has a valid score on the validation split: the last epoch" in text


def test_other_options_split_groups_and_places_do_not(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path, "multidigits", "ls", constant(0.5), seed=seed, workers=seed, optimizer={"lr": 1e-3})
    make_run(tmp_path, "multidigits", "ls", constant(0.5), optimizer={"lr": 0.01}, seconds=8.0)
    make_run(tmp_path, "multidigits", "samgs", constant(0.5), optimizer={"lr": 0.01}, seconds=4.0)
    (runs,) = find_runs([str(tmp_path)])[0].values()
    groups, said = group(runs, judge("multidigits"), "paper")
    assert not said
    assert {str(own.label): len(own.seeds) for own in groups} == {
        "ls (optimizer.lr=0.001)": 2,
        "ls (optimizer.lr=0.01)": 1,
        "samgs (optimizer.lr=0.01)": 1,
    }
    table = tables(runs, Wanted("paper", sort="time"))["results"]
    ratio = {row[0].value: row[-1].value for row in table.sections[0].rows}
    assert ratio["samgs (optimizer.lr=0.01)"] == 0.5  # relative to `ls` of the same rate


def test_models_and_data_sets_have_tables_of_their_own(tmp_path: Path) -> None:
    for model in ("segnet", "mtan"):
        make_run(tmp_path / "runs" / model, "nyuv2", "ls", worse("nyuv2", 0.1), model=model, epochs=1)
    make_run(tmp_path / "runs", "qm9", "ls", worse("qm9", 0.1), epochs=1)
    make_run(tmp_path / "runs", "celeba", "ls", worse("celeba", 0.1), epochs=1)
    assert run_table(str(tmp_path / "runs"), f"out={tmp_path / 'out'}", "mode=paper") == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {
        *(f"nyuv2_{model}_paper_{kind}" for model in ("segnet", "mtan") for kind in ("results", "delta")),
        *(f"qm9_net_paper_{kind}" for kind in ("results", "delta")),
        *(f"celeba_net_paper_{kind}" for kind in ("results", "metrics", "delta")),
    }
    results = written(tmp_path / "out", "celeba_net_paper_results")["ls"]
    assert float(results["Delta-m"]) == pytest.approx(10) and float(results["mean"]) > 50
    metrics = (tmp_path / "out" / "celeba_net_paper_metrics.csv").read_text().splitlines()
    assert len(metrics) == 41 and metrics[0] == "section,metric,ls,notes"


def test_a_resumed_run_counts_an_epochs_last_time(tmp_path: Path) -> None:
    path = make_run(tmp_path, "multidigits", "ls", constant(0.5), epochs=3, seconds=2.0)
    with open(path / "health.jsonl", "a") as file:
        for epoch in (1, 2):
            file.write(f'{{"step": 1, "event": "epoch", "epoch": {epoch}, "train_seconds": 6.0}}\n')
    run = Record.open(path)
    assert group([run], judge("multidigits"), "paper")[0][0].seconds == [6.0]


def test_sorting_and_published_rows(tmp_path: Path) -> None:
    make_run(tmp_path, "nyuv2", "ls", worse("nyuv2", 0.1), seconds=3.0)
    make_run(tmp_path, "nyuv2", "famo", worse("nyuv2", 0.2), seconds=2.0)
    (runs,) = find_runs([str(tmp_path)])[0].values()

    def order(**wanted: Any) -> list[Any]:
        return [row[0].value for row in tables(runs, Wanted("paper", **wanted))["results"].sections[0].rows]

    assert order() == order(sort="rank") == order(sort="miou") == ["ls", "famo"]
    assert order(sort="method") == order(sort="time") == ["famo", "ls"]
    table = tables(runs, Wanted("paper"))["results"]
    assert [section.title for section in table.sections] == ["our runs", "published in the SAM-GS paper"]
    gradnorm = next(row for row in table.sections[1].rows if row[0].value == "GradNorm")
    assert gradnorm[2].value == 52.06 and "printed 64.64" in gradnorm[2].notes[0]
    every = tables(runs, Wanted("paper", paper="all"))["results"]
    assert len(every.sections) == 7
    assert len(tables(runs, Wanted("paper", paper="none"))["results"].sections) == 1


Spoil = Callable[[Path], list[str]]


def _no_manifest(path: Path) -> list[str]:
    (path / "manifest.json").unlink()
    return [str(path)]


def _bad_row(path: Path) -> list[str]:
    with open(path / "evaluations.jsonl", "a") as file:
        file.write('{"split": "test"}\n')
    return [str(path)]


def _bad_dataset(path: Path) -> list[str]:
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("name: multidigits", "name: mnist"))
    return [str(path.parent)]


def _no_dataset(path: Path) -> list[str]:
    (path / "config.yaml").write_text("env: {name: mt10}\n")
    return [str(path)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: [str(path / "nowhere")], "nowhere: there is no such file or folder"),
        (lambda path: [str(path / "config.yaml")], "config.yaml: no run was found"),
        (lambda path: ["mode=paper"], "name run folders"),
        (_no_manifest, "cannot read"),
        (_bad_row, "line 49 has no 'step'"),
        (_bad_dataset, "dataset.name=mnist is unknown; choices: nyuv2"),
        (_no_dataset, "s0 is no run of experiments_vision"),
        (lambda path: [str(path), "mode=fast"], "mode"),
        (lambda path: [str(path), "baseline=theirs"], "baseline"),
        (lambda path: [str(path), "baseline=published"], "no paper has single-task results of multidigits"),
        (lambda path: [str(path), "sort=miou"], "sort=miou is unknown for multidigits; choices: delta, rank"),
        (
            lambda path: [str(path), "published=Nature"],
            "published=Nature has no rows of multidigits; choices: all, none",
        ),
        (lambda path: [str(path), "colour=red"], "colour"),
        (lambda path: [str(path), f"out={path / 'config.yaml'}"], "config.yaml: cannot write there"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Spoil, message: str
) -> None:
    path = make_run(tmp_path / "runs", "multidigits", "ls", constant(0.5))
    assert run_table(*spoil(path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_an_empty_folder_is_named_and_other_programs_runs_are_skipped_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run_table(str(tmp_path / "empty")) == 2
    assert f"{tmp_path / 'empty'}: no run was found" in capsys.readouterr().err
    make_run(tmp_path / "runs", "multidigits", "ls", constant(0.5))
    other = make_run(tmp_path / "runs", "multidigits", "samgs", constant(0.5))
    _no_dataset(other)
    assert run_table(str(tmp_path / "runs"), "out=") == 0
    assert f"{other} is no run of experiments_vision and is left out." in capsys.readouterr().out


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_table() == 0 and run_table("--help") == 0
    assert "usage: python -m experiments_vision table" in capsys.readouterr().out
