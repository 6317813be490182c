"""The model of a cluster agrees with the code that it is a model of."""

from __future__ import annotations

import numpy as np
import pytest

from mtrl_surgery.commands.bench.model import TRANSITION_BYTES, ModelArguments, parameters, stages, update
from tests.commands.conftest import Run


@pytest.mark.parametrize("tasks", [10, 50])
def test_parameters_and_products_are_the_agents(tasks: int):
    import torch

    from agents.config import AgentConfig
    from agents.networks import initial_mlp
    from agents.policy import actor_sizes, critic_sizes
    from agents.problem import Problem
    from mtrl_surgery.assembly import update_flops

    problem = Problem(tuple(map(str, range(tasks))), 39, 4, np.ones((tasks, 4), np.float32))
    config, generator = AgentConfig(), torch.Generator().manual_seed(0)
    actor = initial_mlp(1, actor_sizes(problem, config), config.initializer, generator).num_parameters
    critics = initial_mlp(2, critic_sizes(problem, config), config.initializer, generator).num_parameters
    assert parameters(tasks, 400) == (actor, critics)
    one = update(ModelArguments(tasks=tasks, update_gflops=1.0), 1)
    assert one.products_ms == pytest.approx(
        1e3 * update_flops(problem, config) / 1e9, rel=0.01
    )  # biases are no products


def test_a_transition_has_the_bytes_of_a_chunk():
    from envs.config import EnvConfig
    from envs.rollout import Rollout
    from envs.suite import build_suite

    suite = build_suite(EnvConfig(name="custom", tasks=["reach-v3"]))
    rollout = Rollout(suite, (0,), 1, 0)
    chunk = rollout.collect(None, 0, 3)
    rollout.close()
    arrays = [value for value in vars(chunk).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 3 * TRANSITION_BYTES


def test_the_exchange_is_that_of_column_slices():
    """(N - 1) / N (K + 1) P numbers, against twice K P for whole Jacobians."""
    asked = ModelArguments(tasks=50, latency_us=0.0, link_gb_s=1.0)
    numbers = sum(parameters(50, 400))
    for gpus in (2, 8):
        one = update(asked, gpus)
        assert one.exchange_ms == pytest.approx((gpus - 1) / gpus * 51 * numbers * 4 / 1e6)
        assert one.all_reduce_ms / one.exchange_ms == pytest.approx(100 / 51)
    assert update(asked, 1).exchange_ms == 0


def test_more_of_what_limits_helps_and_more_of_the_rest_does_not():
    def rate(**changes: float) -> float:
        return min(stage.rate for stage in stages(ModelArguments(**changes)) if stage.today)

    assert rate(gpus=8) > rate(gpus=1)
    assert rate(cores=500) == rate(cores=50)
    assert rate(ratio=0.02) == 1800.0, "with few updates the slowest task is left"
    assert rate(ratio=0.02, copies=4) == 450.0


def test_the_command_names_the_limit(run: Run):
    said = run("bench", "model", "tasks=50", "ratio=0")
    assert said.code == 0 and "limit: slowest task" in said.out
    said = run("bench", "model")
    assert said.code == 0 and "limit: updates" in said.out and "not built" in said.out


@pytest.mark.parametrize("word", ["gpus=0", "env_rate=0", "link_gb_s=-1"])
def test_it_refuses_what_makes_no_sense(run: Run, word: str):
    said = run("bench", "model", word)
    assert said.code == 2 and word.split("=")[0] in said.err
