"""`export`: what it writes acts as the policy does, with torch or onnxruntime alone."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from envs.build import build_suite
from envs.config import EnvConfig
from mtrl_surgery.assembly import build_problem, made_with
from mtrl_surgery.commands.program import compose
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import to_settings
from tests.commands.conftest import Run

METAWORLD = EnvConfig(tasks=["reach-v3", "drawer-close-v3", "door-open-v3"])
PENDULUM = EnvConfig(kind="gymnasium", tasks=["Pendulum-v1", "MountainCarContinuous-v0"])
EXAMPLE = Path(__file__).parents[2] / "examples" / "drive_exported_policy.py"


def run_with_policy(out: Path, env: EnvConfig, agent: AgentConfig) -> tuple[Path, Policy]:
    """A run folder with one checkpoint of random weights, far from zero, and their policy."""
    problem = build_problem(build_suite(env))
    rng = np.random.default_rng(0)
    size = initial_mlp(1, actor_sizes(problem, agent), "he_uniform", torch.Generator()).num_parameters
    weights_P = rng.normal(size=size).astype(np.float32) / np.sqrt(agent.hidden_sizes[0])
    if agent.observation_normalization == "warmup":
        scale_O = rng.uniform(1, 20, problem.observation_dim)
        weights_P = np.concatenate([weights_P, rng.normal(size=problem.observation_dim), scale_O]).astype(np.float32)
    settings = dataclasses.replace(to_settings(compose(["method=ls"])), env=env, agent=agent)
    with RunFolder.create(out, "run", settings.to_mapping()) as run:
        about = made_with(settings, build_suite(env))
        CheckpointStore(run.checkpoints, keep=1, about=about).save(7, {"policy_weights": weights_P})
    policy = Policy(problem, agent)
    policy.load(weights_P)
    return run.path, policy


@pytest.mark.parametrize(
    ("env", "agent"),
    [
        (METAWORLD, AgentConfig(hidden_sizes=[32, 32], one_hot=True, observation_normalization="warmup")),
        (METAWORLD, AgentConfig(hidden_sizes=[16], one_hot=False, observation_normalization="none")),
        (PENDULUM, AgentConfig(hidden_sizes=[16, 8, 16], one_hot=True, observation_normalization="none")),
    ],
    ids=["normalised", "no one-hot", "padded"],
)
def test_the_files_act_as_the_policy(run: Run, tmp_path: Path, env: EnvConfig, agent: AgentConfig):
    path, policy = run_with_policy(tmp_path, env, agent)
    said = run("export", f"checkpoint={path}", "format=torchscript,onnx", "out=exported")
    assert said.code == 0, said.err
    assert sorted(file.name for file in Path("exported").iterdir()) == [
        "policy.json",
        "policy.onnx",
        "policy.pt",
        "policy.safetensors",
    ]
    about = json.loads(Path("exported/policy.json").read_text())
    assert about["tasks"] == env.tasks and about["source"]["step"] == 7
    script = torch.jit.load("exported/policy.pt")
    session = onnxruntime.InferenceSession("exported/policy.onnx", providers=["CPUExecutionProvider"])
    tensors = load_file("exported/policy.safetensors")

    obs_NO = np.random.default_rng(1).normal(size=(20, about["observation"]["size"])).astype(np.float32)
    modes = []
    for task in range(len(env.tasks)):
        expected_NA = policy.mode(task, obs_NO).copy()
        task_N = np.full(20, task, np.int64)
        (from_onnx_NA,) = session.run(["action"], {"obs": obs_NO, "task": task_N})
        from_script_NA = script(torch.from_numpy(obs_NO), torch.from_numpy(task_N)).numpy()
        for exported_NA in (from_script_NA, from_onnx_NA, by_formula(about, tensors, task, obs_NO)):
            assert exported_NA.dtype == np.float32
            np.testing.assert_allclose(exported_NA, expected_NA, rtol=0, atol=1e-6)
        modes.append(expected_NA)
    assert np.abs(modes[0]).max() > 0.1, "the policy does nothing: the test would say nothing"
    assert np.array_equal(modes[0], modes[1]) is not agent.one_hot

    # Rows of different tasks in one call.
    mixed_NA = script(torch.from_numpy(obs_NO[:2]), torch.tensor([1, 0])).numpy()
    np.testing.assert_allclose(mixed_NA, [modes[1][0], modes[0][1]], rtol=0, atol=1e-6)


def by_formula(about: dict, tensors: dict[str, np.ndarray], task: int, obs_NO: np.ndarray) -> np.ndarray:
    """What policy.json says about policy.safetensors, word for word."""
    clip = about["observation"]["clip"] or np.inf
    x = np.clip((obs_NO - tensors["observation.mean"]) * tensors["observation.scale"], -clip, clip)
    x = x @ tensors["layer0.weight"] + tensors["layer0.bias"][task]
    for layer in range(1, len(about["network"]["layers"])):
        x = np.maximum(x, 0) @ tensors[f"layer{layer}.weight"] + tensors[f"layer{layer}.bias"]
    return np.tanh(x[:, : about["action"]["size"]]) * tensors["action.mask"][task]


def test_the_example_drives_metaworld_without_this_package(run: Run, tmp_path: Path):
    env = EnvConfig(tasks=["reach-v3"])
    path, _ = run_with_policy(tmp_path, env, AgentConfig(hidden_sizes=[16], one_hot=True))
    assert run("export", f"checkpoint={path}").code == 0
    assert len(EXAMPLE.read_text().splitlines()) <= 22
    command = [sys.executable, "-X", "importtime", str(EXAMPLE), str(path / "export-7"), "5"]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "reach-v3: no success\n"
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "metaworld" in imported and not imported & {"mtrl_surgery", "agents", "envs", "cluster"}


def test_what_cannot_be_exported_is_refused(run: Run, tmp_path: Path):
    path, _ = run_with_policy(tmp_path, METAWORLD, AgentConfig(hidden_sizes=[16]))
    said = run("export", f"checkpoint={path}", "format=keras")
    assert said.code == 2 and "format" in said.err and "torchscript, onnx" in said.err
    assert run("export", "format=onnx").code == 2
    said = run("export", f"checkpoint={tmp_path}/nothing")
    assert said.code != 0 and "nothing" in said.err
    Path("taken").mkdir()
    said = run("export", f"checkpoint={path}", "out=taken")
    assert said.code == 2 and "out=taken is there already" in said.err
    assert not list(Path("taken").iterdir())
