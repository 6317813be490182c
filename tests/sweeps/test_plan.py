"""The runs of a sweep before any work: their folders, what they take, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments_vision.commands.program import TARGET as VISION
from mtrl_surgery.assembly import resolve
from mtrl_surgery.commands.program import TARGET, compose
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import run_name, to_settings
from mtrl_surgery.sweeps.plan import Node, Resources, RunPlan, check_capacity, fits, make_plans, refuse_held, split

SMOKE = ("experiment=smoke", "device=cpu")


def plans_of(*words: str) -> list[RunPlan]:
    options, rest = split(words)
    return make_plans(TARGET, rest, options)


def test_a_sweeps_run_is_the_plain_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plans = plans_of(*SMOKE, "method=ls,samgs", "seed=3")
    assert [plan.label for plan in plans] == ["method=ls", "method=samgs"]
    for plan in plans:
        *start, folder = plan.command
        assert folder == f"folder={plan.folder}" and start[:3] == ["-m", "mtrl_surgery", "train"]
        settings = resolve(to_settings(compose(start[3:])))
        assert plan.folder == tmp_path / "runs" / run_name(settings)
        assert settings.cluster.kind == "inline" and settings.threads == 1 and settings.device == "cpu"


def test_supervised_runs_are_planned_alike(tmp_path: Path):
    options, rest = split(["method=ls,stl", "workers=1", "device=cpu", f"out={tmp_path}"])
    plans = make_plans(VISION, rest, options)
    assert [plan.folder.name.split("_")[2] for plan in plans] == ["ls", "stl"]
    assert all(plan.resources.cpus == 2 and plan.command[1] == "experiments_vision" for plan in plans)


@pytest.mark.parametrize(
    ("words", "need"),
    [
        ((), (1, 0, 0, 0)),
        (("threads=3",), (3, 0, 0, 0)),
        (("cluster=local", "cluster.workers=2", "threads=1"), (3, 0, 0, 0)),
        (("cluster=local", "cluster.workers=9", "threads=1"), (3, 0, 0, 0)),  # at most a worker a task, of two
        (("cluster=local", "cluster.workers=1", "learner.num=2", "threads=2"), (5, 0, 0, 0)),
        (("cluster=ray", "cluster.workers=2", "threads=2"), (2, 0, 2, 0)),
        (("cluster=ray", "cluster.workers=1", "learner.num=2", "learner.cpus=3", "learner.gpus=1"), (1, 0, 7, 2)),
        (("sweep.cpus=0.5", "sweep.gpus=0.25"), (0.5, 0.25, 0, 0)),
    ],
)
def test_what_a_run_takes(words: tuple[str, ...], need: tuple[float, ...]):
    (plan,) = plans_of(*SMOKE, "method=ls", *words)
    found = plan.resources
    assert (found.cpus, found.gpus, found.apart_cpus, found.apart_gpus) == need
    assert found.joins == (need[2] > 0)


def test_a_gpu_run_takes_one_wherever_it_will_be():
    (plan,) = plans_of("experiment=smoke", "method=ls", "device=cuda", "sweep.address=auto")
    assert plan.resources.gpus == 1 and "device=cuda" in plan.command and plan.command[-1].startswith("folder=")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("seed=1,1",), "are the same run, and would write one folder"),
        (("logger=none,tensorboard",), "are the same run"),
        (("seed=0,-1",), r"run 2 of 2 \(seed=-1\): seed=-1 must be at least 0"),
        (("method=ls,samgx",), r"run 2 of 2 \(method=samgx\): unknown method 'samgx'; did you mean 'samgs'"),
        (("seed=-1",), r"^seed=-1 must be at least 0"),
        (("env.horizn=1,2",), r"unknown key 'env.horizn'; did you mean 'env.horizon'"),
        (("cluster=local",), "cluster.workers=null: in a sweep, say how many"),
        (("cluster=ray",), "cluster.workers=null: in a sweep, say how many"),
        (("device=cuda:1",), "Ray gives every run its GPU"),
        (("resume=x",), "resume=x: names one run"),
        (("folder=x",), "folder=x: names one run"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(
    words: tuple[str, ...], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=part):
        plans_of("experiment=smoke", *words)
    assert not list(tmp_path.iterdir())


def test_runs_that_no_node_could_do_are_refused():
    nodes = [Node("10.0.0.1", 4, 0), Node("10.0.0.2", 2, 1)]
    for words, part in {
        ("threads=5",): r"^threads=5: a run takes 5 CPUs of one node, and none has that: 10.0.0.1 has 4 CPUs; "
        r"10.0.0.2 has 2 CPUs and 1 GPU \(run: method=ls\)",
        ("sweep.cpus=3", "sweep.gpus=1"): "sweep.cpus=3, sweep.gpus=1: a run takes 3 CPUs and 1 GPU of one node",
        ("cluster=ray", "cluster.workers=2", "threads=4", "learner.num=2"): "a run and its workers take 11 CPUs, and",
    }.items():
        with pytest.raises(ValueError, match=part):
            check_capacity(plans_of(*SMOKE, "method=ls,samgs", *words), nodes)
    check_capacity(plans_of(*SMOKE, "method=ls", "threads=4"), nodes)


def test_a_run_starts_only_where_its_workers_find_room_too():
    nodes = [Node("a", 2, 0), Node("b", 2, 0)]
    alone, joining = Resources(1, 0), Resources(1, 0, apart_cpus=2)
    assert fits([joining], alone, nodes) and not fits([joining], joining, nodes)
    assert fits([alone] * 3, alone, nodes) and not fits([alone] * 4, alone, nodes)
    assert not fits([], Resources(1, 1), nodes)


def test_a_run_that_somebody_writes_is_refused(tmp_path: Path):
    (plan,) = plans_of(*SMOKE, "method=ls", f"out={tmp_path}")
    refuse_held([plan])
    with RunFolder.begin(plan.folder, {"seed": 0}), pytest.raises(ValueError, match=r"being written by process \d+ on"):
        refuse_held([plan])
    refuse_held([plan])
