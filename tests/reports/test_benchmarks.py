"""From run folders to comparable groups: cubes [time, seed, task] of scores and counts."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.reports.benchmarks import benchmarks
from mtrl_surgery.reports.figures.tasks import pooled
from mtrl_surgery.reports.records import ReportError, open_runs
from mtrl_surgery.reports.series import networks, of_pairs, of_run, of_tasks, square
from mtrl_surgery.reports.statistics import wilson
from tests.reports.folders import TASKS, make_run
from tests.vision.tables.folders import make_run as make_vision_run


def test_seeds_stand_side_by_side(tmp_path: Path) -> None:
    make_run(tmp_path, "samgs", seed=7)
    make_run(tmp_path, "samgs", seed=2, rates=((0.1, 0.1, 0.1),))
    make_run(tmp_path, "ls")
    (found,), said = benchmarks(open_runs(tmp_path)[0])
    assert not said and found.name == "three" and found.tasks == ("reach", "push", "door-open")
    assert [group.label for group in found.groups] == ["ls", "samgs"]
    samgs = found.groups[1]
    assert samgs.seeds_R == (2, 7) and samgs.steps_T.tolist() == [100, 200]
    np.testing.assert_allclose(samgs.scores_TRK[:, 1], [[0.0, 0.2, 0.4], [0.2, 0.6, 1.0]])
    np.testing.assert_allclose(samgs.scores_TRK[0, 0], 0.1)
    assert np.isnan(samgs.scores_TRK[1, 0]).all(), "it was not evaluated then"
    assert samgs.episodes_TRK is not None and np.nansum(samgs.episodes_TRK) == 90


def test_success_at_any_step_or_at_the_last(tmp_path: Path) -> None:
    make_run(tmp_path)
    records, _ = open_runs(tmp_path)
    (last,), _ = benchmarks(records, "last")
    np.testing.assert_allclose(last.groups[0].scores_TRK[1, 0], [0.1, 0.3, 0.5])
    assert last.score == "success rate (at the last step)"
    with pytest.raises(ReportError, match="success=ever: choices: any, last"):
        benchmarks(records, "ever")  # type: ignore[arg-type]


def test_other_tasks_are_another_benchmark_even_under_the_same_name(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", tasks=TASKS[:2], rates=((0.5, 0.5),))
    found, _ = benchmarks(open_runs(tmp_path)[0])
    assert [own.name for own in found] == ["three", "three-2"]


def test_a_twin_is_left_out_and_named(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", status="running")
    second = make_run(tmp_path / "b")
    (found,), _ = benchmarks(open_runs(tmp_path)[0])
    assert found.records[0].path == second and str(first) in found.said[0]


def test_pooled_counts_have_wilsons_intervals(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, rates=((0.4, 0.4, 0.4),))
    (found,), _ = benchmarks(open_runs(tmp_path)[0])
    own = pooled(found.groups[0])
    assert own["successes"].tolist() == [2 + 4, 6 + 4, 10 + 4] and own["episodes"].tolist() == [20, 20, 20]
    low, high = wilson([6, 10, 14], 20)
    np.testing.assert_allclose((own["low"], own["high"]), (low, high))


def test_supervised_accuracies_are_scores_as_they_are(tmp_path: Path) -> None:
    for seed in (0, 1):
        values = lambda split, epoch, mode, name, seed=seed: 0.5 + 0.1 * epoch + 0.05 * seed + (mode == "batches")  # noqa: E731
        make_vision_run(tmp_path, "multidigits", "ls", values, seed=seed, epochs=3)
    (found,), _ = benchmarks(open_runs(tmp_path)[0], scoring_of=scoring_of)
    assert found.kind == "supervised" and found.scoring.common and found.tasks == ("left", "right")
    np.testing.assert_allclose(found.groups[0].scores_TRK[:, 1, 0], [0.55, 0.65, 0.75])
    assert found.groups[0].successes_TRK is None
    own = pooled(found.groups[0])
    np.testing.assert_allclose((own["rate"][0], own["low"][0], own["high"][0]), (0.725, 0.7, 0.75))


def test_single_task_runs_are_one_method_a_task_each(tmp_path: Path) -> None:
    for task in (0, 1):
        own = f"accuracy_{('left', 'right')[task]}"
        of = lambda split, epoch, mode, name, own=own: 0.9 if name == own else 0.1  # noqa: E731
        make_vision_run(tmp_path / str(task), "multidigits", {"name": "stl", "task": task}, of, epochs=1)
    (found,), _ = benchmarks(open_runs(tmp_path)[0], scoring_of=scoring_of)
    (group,) = found.groups
    assert group.label == "stl" and group.seeds_R == (0,)
    np.testing.assert_allclose(group.scores_TRK[0, 0], [0.9, 0.9])


def test_metrics_of_different_units_are_shown_against_ls(tmp_path: Path) -> None:
    higher = {"miou", "pixel_accuracy", "within_11", "within_22", "within_30"}
    make_vision_run(tmp_path, "nyuv2", "ls", lambda split, epoch, mode, name: 0.5, epochs=2)
    make_vision_run(
        tmp_path, "nyuv2", "famo", lambda split, epoch, mode, name: 0.55 if name in higher else 0.45, epochs=2
    )
    (found,), _ = benchmarks(open_runs(tmp_path)[0], scoring_of=scoring_of)
    assert not found.scoring.common and "per cent better than ls" in found.score
    by_label = {group.label: group.scores_TRK for group in found.groups}
    np.testing.assert_allclose(by_label["ls"], 0, atol=1e-9)
    np.testing.assert_allclose(by_label["famo"], 10, atol=1e-9)


def test_series_are_means_over_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed)
    (found,), _ = benchmarks(open_runs(tmp_path)[0])
    assert networks(found) == {"critic": "critic/", "actor": "actor/"}
    rows = pd.concat([record.frames["metrics"] for record in found.records])
    rows = rows[rows["step"] == 200]
    own = of_run(found, "critic/mean_cosine")["ls"]
    assert own.index.tolist() == [100, 200]
    assert own[200] == pytest.approx(rows.loc[rows["task"].isna(), "critic/mean_cosine"].mean())
    by_task = of_tasks(found, "actor/weights")["ls"]
    assert by_task.loc[200, TASKS[2]] == pytest.approx(rows.loc[rows["task"] == TASKS[2], "actor/weights"].mean())
    assert not of_run(found, "no/such") and not of_tasks(found, "no/such")
    maps = of_pairs(found)["actor"]["ls"]
    expected = np.mean([record.frames["conflicts"]["cosine"].iloc[-1] for record in found.records], axis=0)
    np.testing.assert_allclose(maps["cosine"].loc[200], expected)
    square_KK = square(maps["cosine"].loc[200].to_numpy(), 3)
    np.testing.assert_allclose(square_KK, square_KK.T)
    assert math.isnan(square_KK[0, 0])


def test_a_map_with_a_nan_counts_where_it_is_known(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    text = (path / "conflicts.jsonl").read_text()
    first = re.sub(r'"cosine":\[[^,]*,', '"cosine":[null,', text, count=1)
    (path / "conflicts.jsonl").write_text(first)
    (found,), _ = benchmarks(open_runs(tmp_path)[0])
    cosines = of_pairs(found)["critic"]["ls"]["cosine"]
    assert math.isnan(cosines.iloc[0, 0]) and not math.isnan(cosines.iloc[0, 1])
