"""Words that make no sense: one line that names the key, the value and the choices, exit code 2, no traceback."""

from __future__ import annotations

import os

import pytest

from cluster.config import ClusterError, ClusterFailure
from mtrl_surgery.cli.output import report
from mtrl_surgery.methods.registry import METHODS
from tests.commands.conftest import Run

CASES = {
    "unknown key": (["agent.hiden_sizes=[3]"], ["unknown key 'agent.hiden_sizes'", "'agent.hidden_sizes'"]),
    "unknown key of the root": (["sed=3"], ["unknown key 'sed'", "did you mean 'seed'?", "total_steps"]),
    "unknown group": (["agnt.tau=0.1"], ["unknown key 'agnt'", "did you mean 'agent'?"]),
    "right name, wrong place": (["tau=0.1"], ["unknown key 'tau'", "did you mean 'agent.tau'?"]),
    "unknown key of a method": (["method=cagrad", "method.cc=1"], ["'method.cc'", "'method.c'", "method.name"]),
    "key of another method": (["method=ls", "method.gamma=1"], ["unknown key 'method.gamma'", "method.name"]),
    "appended key": (["+typo=1"], ["unknown key 'typo'", "total_steps"]),
    "appended nested key": (["+agent.typo=1"], ["unknown key 'agent.typo'", "agent.tau"]),
    "unknown method": (["method=samsg"], ["unknown method 'samsg'", "did you mean 'samgs'?", *METHODS]),
    "unknown critic method": (["critic_method=fmo"], ["unknown critic_method 'fmo'", "did you mean 'famo'?"]),
    "unknown env": (["env=mt11"], ["unknown env 'mt11'", "mt10, mt25, mt50"]),
    "unknown agent": (["agent=ppo"], ["unknown agent 'ppo'", "mtrl, mtsac"]),
    "unknown cluster": (["cluster=loca"], ["unknown cluster 'loca'", "did you mean 'local'?"]),
    "unknown experiment": (["experiment=easy"], ["unknown experiment 'easy'", "easy3"]),
    "unknown logger": (["logger=tensorbord"], ["unknown logger 'tensorbord'", "did you mean 'tensorboard'?"]),
    "no method": (["method=null"], ["not null"]),
    "method renamed": (["method.name=ls"], ["method.name='ls'", "choose with method=<method>"]),
    "wrong type": (["total_steps=many"], ["total_steps", "'many'", "Integer"]),
    "fraction of a step": (["env.horizon=1.5"], ["env.horizon", "'1.5'"]),
    "number for a list": (["env.tasks=3"], ["env.tasks", "list"]),
    "no key": (["samgs"], ["cannot read 'samgs'", "KEY=VALUE"]),
    "sweep without -m": (["method=ls,samgs"], ["method=ls,samgs", "--multirun"]),
    "negative steps": (["total_steps=-1"], ["total_steps=-1 must be at least 1"]),
    "negative seed": (["seed=-1"], ["seed=-1 must be at least 0"]),
    "no threads": (["threads=0"], ["threads=0 must be at least 1"]),
    "no log": (["log_every=0"], ["log_every=0 must be at least 1"]),
    "no episodes": (["evaluation.episodes=0"], ["evaluation.episodes=0 must be at least 1"]),
    "no copies": (["env.copies=0"], ["env.copies=0 must be at least 1"]),
    "no workers": (["cluster.workers=0"], ["cluster.workers=0"]),
    "no checkpoints": (["checkpoint.keep=0"], ["checkpoint.keep=0"]),
    "unknown protocol": (
        ["evaluation.protocol=mtlr"],
        ["unknown evaluation.protocol 'mtlr'", "did you mean 'mtrl'?", "metaworld_plus"],
    ),
    "unknown kind": (["env.kind=metawrld"], ["unknown env.kind 'metawrld'", "did you mean 'metaworld'?", "factory"]),
    "unknown mode": (["cluster.mode=asink"], ["cluster.mode='asink'", "sync, async"]),
    "unknown device": (["device=gpu"], ["unknown device 'gpu'", "auto, cpu, cuda"]),
    "unknown temperature": (["agent.temperature=each"], ["agent.temperature='each'", "per_task, shared"]),
    "option out of range": (["method=cagrad", "method.rescale=7"], ["cagrad.rescale=7"]),
    "ray without address": (["cluster=ray", "cluster.address=null"], ["cluster.address"]),
    "a list in a list": (["env.tasks=[[Pendulum-v1]]"], ["env.tasks=[['Pendulum-v1']]: must be a list of texts"]),
    "an endless learning rate": (["agent.actor_learning_rate=inf"], ["agent.actor_learning_rate=inf", "finite"]),
    "no number": (["agent.target_entropy=nan"], ["agent.target_entropy=nan", "finite"]),
    "an endless option": (["method=famo", "method.w_lr=inf"], ["famo.w_lr=inf", "finite"]),
    "an endless success": (["env.success_reward=inf"], ["env.success_reward=inf", "finite"]),
    "a reference to nothing": (["env.name=${x}"], ["'x' not found"]),
    "no module": (["plugins=no_such_module"], ["plugins=no_such_module", "there is no module"]),
    "a file for a module": (["plugins=my_methods.py"], ["write my_methods"]),
    "no user": (["out=~no_such_user/runs"], ["out=~no_such_user/runs", "no user"]),
    "an empty path": (["out="], ["out= is empty"]),
    "resume of nothing": (["resume=nowhere"], ["nowhere is no run folder"]),
}


@pytest.mark.parametrize(("words", "parts"), CASES.values(), ids=CASES.keys())
def test_train_refuses(run: Run, words: list[str], parts: list[str]):
    said = run("train", *words)
    assert said.code == 2
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for part in parts:
        assert part in said.err
    assert os.listdir() == [], "nothing may be written for words that make no sense"


TASK_CASES = {
    "unknown task": (["env=custom", "env.tasks=[rech-v3]"], ["rech-v3", "reach-v3"]),
    "no tasks": (["env=custom"], ["env.tasks"]),
    "tasks of another set": (["env=mt10", "env.tasks=[reach-v3]"], ["env.name=mt10", "env=custom env.tasks="]),
    "a task twice": (["env=custom", "env.tasks=[reach-v3,reach-v3]"], ["'reach-v3'", "more than once"]),
    "unknown reward": (["env.reward_version=v3"], ["env.reward_version", "v1, v2"]),
    "no room": (
        ["env=classic", "agent.replay_capacity=1000000000000"],
        ["agent.replay_capacity=1000000000000: takes ", " GB are free"],
    ),
    "no such CUDA device": (["device=cuda:99"], ["device=cuda:99"]),
}


@pytest.mark.parametrize(("words", "parts"), TASK_CASES.values(), ids=TASK_CASES.keys())
def test_train_refuses_what_only_the_machine_knows(run: Run, words: list[str], parts: list[str]):
    said = run("train", "cluster=inline", *words)
    assert said.code == 2
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for part in parts:
        assert part in said.err
    assert os.listdir() == []


OTHER_CASES = {
    "no checkpoint": (["evaluate", "episodes=3"], ["checkpoint="]),
    "no run": (["evaluate", "checkpoint=nowhere"], ["nowhere is no run folder"]),
    "unknown key": (["evaluate", "checkpont=x"], ["unknown key 'checkpont'", "did you mean 'checkpoint'?"]),
    "no word": (["evaluate", "runs/x"], ["cannot read 'runs/x'", "checkpoint="]),
    "no episodes": (["evaluate", "checkpoint=x", "episodes=0"], ["episodes=0 must be at least 1"]),
    "unknown protocol": (["evaluate", "checkpoint=x", "protocol=mt"], ["unknown protocol 'mt'", "metaworld_plus"]),
    "unknown method": (["methods", "samsg"], ["'samsg'", "'samgs'"]),
    "control characters": (["methods", "\x1b[31mred"], ["\\x1b[31mred"]),
    "unknown shell": (["completion", "tcsh"], ["unknown shell 'tcsh'", "bash, zsh, fish"]),
}


@pytest.mark.parametrize(("words", "parts"), OTHER_CASES.values(), ids=OTHER_CASES.keys())
def test_the_other_commands_refuse(run: Run, words: list[str], parts: list[str]):
    said = run(*words)
    assert said.code == 2
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for part in parts:
        assert part in said.err


def test_the_traceback_is_there_for_who_asks(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MTRL_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown method 'samsg'"):
        run("train", "method=samsg")


def test_a_cluster_that_broke_is_a_failed_run_and_a_bad_option_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ClusterFailure("worker 0 died")) == 1
    assert report(ClusterError("cluster.workers=0 must be at least 1")) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: worker 0 died",
        "error: cluster.workers=0 must be at least 1",
    ]
