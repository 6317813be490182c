"""`train` and `evaluate` from end to end, in this process, on real (small) environments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrl_surgery.commands.evaluate import OfCheckpoint, load_run
from tests.commands.conftest import SMALL, Run


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def status(path: Path) -> str:
    return str(json.loads((path / "manifest.json").read_text())["status"])


def test_a_run_leaves_its_whole_folder(finished: Path):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["device"] in ("cpu", "cuda") and config["threads"] == 1, "nothing is left to the machine"
    assert config["env"]["tasks"] and config["evaluation"]["protocol"] == "suite"
    assert finished.name.startswith("classic_ls_s0_")
    assert status(finished) == "finished"
    assert {row["step"] for row in rows(finished / "metrics.jsonl")} == {50, 100, 150, 200}
    assert {(row["step"], row["task"]) for row in rows(finished / "evaluations.jsonl")} == {
        (step, task) for step in (100, 200) for task in config["env"]["tasks"]
    }
    assert [path.name for path in sorted((finished / "checkpoints").glob("step-*"))] == [
        "step-000000100",
        "step-000000200",
    ]


def test_the_same_run_twice_gives_the_same_bytes_in_another_folder(run: Run, finished: Path):
    assert run("train", *SMALL, "out=again").code == 0
    (again,) = Path("again").iterdir()
    assert again.name == finished.name
    assert (again / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert run("train", *SMALL, "out=again", "total_steps=50").code == 0
    assert len(list(Path("again").iterdir())) == 2


def test_a_finished_run_goes_on(run: Run, copy: Path):
    said = run("train", f"resume={copy}", "total_steps=300", "logger=tensorboard")
    assert said.code == 0, said.err
    assert rows(copy / "metrics.jsonl")[-1]["step"] == 300
    config = yaml.safe_load((copy / "config.yaml").read_text())
    assert config["total_steps"] == 300 and config["logger"]["name"] == "tensorboard" and config["resume"] is None
    assert list((copy / "tensorboard").iterdir())
    again = run("train", *SMALL, f"resume={copy}", "total_steps=300")
    assert again.code == 0, "the words that made a run are no change to it"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["seed=2"], ["seed=0 there, 2 here"]),
        (["method=samgs"], ["method.name='ls' there, 'samgs' here"]),
        (["agent.tau=0.1", "cluster.chunk_steps=7"], ["agent.tau=0.005 there, 0.1 here", "chunk_steps=50 there"]),
        (["env=mt10"], ["env.kind='gymnasium' there, 'metaworld' here"]),
        (["total_steps=150"], ["total_steps=150", "200"]),
    ],
)
def test_a_run_does_not_go_on_with_another_past(run: Run, copy: Path, words: list[str], parts: list[str]):
    before = (copy / "metrics.jsonl").read_bytes()
    said = run("train", f"resume={copy}", *words)
    assert said.code == 2 and all(part in said.err for part in parts), said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert (copy / "metrics.jsonl").read_bytes() == before and status(copy) == "finished"


def test_a_run_without_a_whole_checkpoint_does_not_go_on(run: Run, copy: Path):
    shutil.rmtree(copy / "checkpoints")
    said = run("train", f"resume={copy}", "total_steps=300")
    assert said.code == 2 and "no whole checkpoint" in said.err


@pytest.fixture
def no_signals() -> Iterator[None]:
    """A signal that comes too late must not end the test run."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_then_goes_on_to_the_same_bytes(
    run: Run, finished: Path, no_signals: None, number: int, code: int
):
    def stop_after_the_first_row() -> None:
        while not (list(Path("runs").glob("*/metrics.jsonl")) and rows(next(Path("runs").glob("*/metrics.jsonl")))):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    watcher = threading.Thread(target=stop_after_the_first_row)
    watcher.start()
    said = run("train", *SMALL)
    watcher.join()
    (path,) = Path("runs").iterdir()
    assert said.code == code and status(path) == "interrupted"
    assert "checkpoint" in said.err and "Traceback" not in said.err
    assert rows(path / "metrics.jsonl")[-1]["step"] < 200
    assert run("train", f"resume={path}").code == 0
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (path / name).read_bytes() == (finished / name).read_bytes()


def test_a_sweep_with_a_run_that_makes_no_sense_does_not_start(run: Run):
    said = run("train", "-m", *SMALL, "method=ls,samgs", "env.horizon=200,-1")
    assert said.code == 2 and said.err.startswith("error: run 2 of 4 (method=ls env.horizon=-1): env.horizon=-1 must")
    assert not Path("runs").exists()


def test_a_sweep_of_finished_runs_leaves_them_alone(run: Run, copy: Path):
    before = (copy / "manifest.json").read_bytes()
    said = run("train", "-m", *(word for word in SMALL if word != "method=ls"), "method=ls,ls", f"out={copy.parent}")
    assert said.code == 2 and "are the same run" in said.err
    said = run("train", "-m", *SMALL, "seed=0", f"out={copy.parent}", "sweep.report=false")
    assert said.code == 0 and "1 runs, 1 of them done before" in said.err, said.err
    assert (copy / "manifest.json").read_bytes() == before, "it is found where the plain command put it"


def test_a_named_folder_is_begun_gone_on_with_and_begun_again(run: Run, finished: Path):
    assert run("train", *SMALL, "folder=here/mine").code == 0
    mine, files = Path("here/mine"), ("metrics.jsonl", "evaluations.jsonl")
    assert yaml.safe_load((mine / "config.yaml").read_text())["folder"] is None, "a folder that is moved stays right"
    assert all((mine / name).read_bytes() == (finished / name).read_bytes() for name in files)
    assert run("train", *SMALL, "folder=here/mine", "total_steps=250").code == 0
    assert rows(mine / "metrics.jsonl")[-1]["step"] == 250
    said = run("train", *SMALL, "folder=here/mine", "total_steps=250", "seed=1")
    assert said.code == 2 and "folder=here/mine: the run was made with seed=0 there, 1 here" in said.err
    shutil.rmtree(mine / "checkpoints")  # as if killed before its first checkpoint
    assert run("train", *SMALL, "folder=here/mine", "total_steps=200").code == 0
    assert all((mine / name).read_bytes() == (finished / name).read_bytes() for name in files)
    assert [one["before"] for one in json.loads((mine / "manifest.json").read_text())["resumed"]] == ["finished"] * 2
    said = run("train", *SMALL, "folder=here/mine", "resume=here/mine")
    assert said.code == 2 and "both name the run's folder" in said.err


def test_different_methods_for_actor_and_critic(run: Run):
    assert run("train", *SMALL, "total_steps=100", "critic_method=famo", "method=samgs").code == 0
    (path,) = Path("runs").iterdir()
    assert path.name.startswith("classic_critic-famo_actor-samgs_s0_")


FACTORY = """
import gymnasium, numpy as np
class Task(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def __init__(self, name): self.name, self.steps = name, 0
    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.steps += 1
        if self.name == "raises" and self.steps == 30: raise RuntimeError("the gripper fell off")
        reward = float("nan") if self.name == "nan" and self.steps == 30 else 0.0
        return np.zeros(2, np.float32), reward, False, False, {}
def make(name): return Task(name)
"""


@pytest.mark.parametrize(("task", "part"), [("raises", "the gripper fell off"), ("nan", "not finite")])
def test_an_environment_that_fails_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch, task: str, part: str):
    Path("own_tasks.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(os.getcwd())
    said = run("train", *SMALL, "env=factory", "env.factory=own_tasks:make", f"env.tasks=[sound,{task}]")
    assert said.code == 1 and "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ") and f"'{task}'" in last and part in last
    (path,) = Path("runs").iterdir()
    assert status(path) == "failed"


def test_a_run_cannot_be_made_where_nothing_can_be_written(run: Run):
    Path("file").write_text("")
    said = run("train", *SMALL, "out=file")
    assert said.code == 2 and "file" in said.err and said.err.startswith("error: ")


def test_evaluate_prints_a_table_and_writes_json(run: Run, copy: Path):
    said = run("evaluate", f"checkpoint={copy}", "episodes=2", "workers=1")
    assert said.code == 0, said.err
    written = json.loads((copy / "evaluation-200-suite.json").read_text())
    assert written["step"] == 200 and written["protocol"] == "suite" and written["checkpoint"] == "step-000000200"
    for task in written["tasks"]:
        assert task["episodes"] == 2 and len(task["returns"]) == 2 and f"{task['name']} " in said.out
    assert "any step" in said.out and "last step" in said.out


def test_evaluate_agrees_with_the_run(run: Run, copy: Path):
    assert run("evaluate", f"checkpoint={copy}/checkpoints/step-000000100", "episodes=1", "workers=1").code == 0
    written = json.loads((copy / "evaluation-100-suite.json").read_text())
    logged = {row["task"]: row for row in rows(copy / "evaluations.jsonl") if row["step"] == 100}
    assert {task["name"]: task["returns"] for task in written["tasks"]} == {
        name: row["returns"] for name, row in logged.items()
    }


def test_evaluate_refuses_other_tasks(run: Run, copy: Path):
    for word in ("env=mt10", "env.tasks=[Pendulum-v1]"):
        said = run("evaluate", f"checkpoint={copy}", word, "workers=1")
        assert said.code == 2 and "was trained on Pendulum-v1, MountainCarContinuous-v0" in said.err
    assert run("evaluate", f"checkpoint={copy}", "env.horizn=3").code == 2
    assert not list(copy.glob("evaluation-*.json"))


def test_other_goals_do_not_take_the_place_of_the_runs_own(run: Run, copy: Path):
    assert run("evaluate", f"checkpoint={copy}", "env.horizon=20", "episodes=1", "workers=1").code == 0
    (path,) = copy.glob("evaluation-*.json")
    assert path.name != "evaluation-200-suite.json"
    assert {task["lengths"][0] for task in json.loads(path.read_text())["tasks"]} == {20}


@pytest.fixture
def one_ray() -> Iterator[None]:
    """One Ray for all commands of a test, which join what their process is connected to."""
    from cluster.config import ClusterConfig
    from cluster.workers.session import RaySession

    session = RaySession(ClusterConfig(kind="local", object_store_mb=100), workers=2)
    yield
    session.close()


@pytest.mark.cluster
def test_ray_gives_the_same_bytes(run: Run, finished: Path, one_ray: None):
    """Training on two workers, then evaluating its checkpoint on two, against everything in one process."""
    said = run("train", *SMALL, "cluster=local", "cluster.workers=2", "cluster.chunk_steps=50")
    assert said.code == 0, said.err
    (path,) = Path("runs").iterdir()
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (path / name).read_bytes() == (finished / name).read_bytes()
    written = []
    for workers in (1, 2):
        assert run("evaluate", f"checkpoint={path}", "episodes=1", f"workers={workers}").code == 0
        written.append((path / "evaluation-200-suite.json").read_bytes())
    assert written[0] == written[1]


def test_a_corrupt_checkpoint_is_refused_by_name_and_skipped_otherwise(run: Run, copy: Path):
    newest = copy / "checkpoints" / "step-000000200"
    arrays = newest / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-5])
    said = run("evaluate", f"checkpoint={newest}")
    assert said.code == 2 and said.err.startswith("error: ") and "arrays.safetensors" in said.err
    with pytest.warns(UserWarning, match="arrays.safetensors"):
        assert load_run(OfCheckpoint(str(copy)))[2].step == 100
