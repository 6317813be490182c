"""The parts of SAC that `agent=mtrl` reproduces, against the mtrl package itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from agents.config import AgentConfig
from agents.networks import bound_log_std, initial_mlp, squashed_gaussian
from agents.problem import Problem
from agents.sac import SACLearner
from mtrl_surgery.methods.registry import find_method, make_method


@pytest.fixture(scope="module")
def mtrl() -> Iterator[Any]:
    """Its actor and utilities; it registers environments in Gym 0.21's way, and Gym 0.26 made the registry a dict."""
    gym = pytest.importorskip("gym", reason="mtrl needs gym: pip install gym==0.26.2")
    pytest.importorskip("mtrl", reason="pip install --no-deps mtrl==1.0.0")

    class Registry(dict[str, Any]):
        env_specs = property(lambda registry: registry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gym.envs, "registry", Registry(gym.envs.registry))
        from mtrl.agent import utils
        from mtrl.agent.components import actor

        yield SimpleNamespace(actor=actor, utils=utils)


def test_the_squashed_gaussian(mtrl: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    mean_KBA, raw_KBA, noise_KBA = torch.randn((3, 10, 64, 4), generator=generator, dtype=torch.float64)
    low, high = -20.0, 2.0
    log_std_KBA = bound_log_std(raw_KBA, low, high, "tanh")
    action_KBA, log_prob_KB = squashed_gaussian(mean_KBA, log_std_KBA, noise_KBA, torch.ones(10, 1, 4).double())

    theirs = low + 0.5 * (high - low) * (torch.tanh(raw_KBA) + 1)
    torch.testing.assert_close(log_std_KBA, theirs)
    log_pi = mtrl.actor._gaussian_logprob(noise_KBA, theirs)
    _, pi, log_pi = mtrl.actor._squash(mean_KBA, mean_KBA + noise_KBA * theirs.exp(), log_pi)
    torch.testing.assert_close(action_KBA, pi)
    # mtrl adds 1e-6 to 1 - a^2, so its density saturates where an action does; ours is the exact one.
    inside_KB = (action_KBA.abs() < 0.99).all(-1)
    assert inside_KB.sum() > 100
    torch.testing.assert_close(log_prob_KB[inside_KB], log_pi[..., 0][inside_KB], rtol=1e-4, atol=4e-4)


def test_the_initial_weights(mtrl: Any) -> None:
    """`weight_init` of mtrl on each Linear of an actor: the same bounds, of the last layer too, and no biases."""
    sizes = [12, 400, 400, 8]
    ours = initial_mlp(1, sizes, "xavier_uniform", torch.Generator().manual_seed(0)).views()
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        theirs = nn.Linear(fan_in, fan_out)
        mtrl.utils.weight_init(theirs)
        mine_IO, bound = ours[f"weight{layer}"][0], math.sqrt(6 / (fan_in + fan_out))
        for weight in (mine_IO, theirs.weight.detach()):
            assert 0.99 * bound < weight.abs().max() <= bound
            assert weight.square().mean() == pytest.approx(bound**2 / 3, rel=0.05)
        assert not ours[f"bias{layer}"].any() and not theirs.bias.detach().any()


def test_the_temperatures_gradient() -> None:
    """Of one temperature for all (`update_actor_and_alpha`): the mean of alpha (-log pi - target) over the batch."""
    log_alpha = torch.tensor(-0.7, requires_grad=True)
    log_pi_KB = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    (log_alpha.exp() * (-log_pi_KB + 2.0)).mean().backward()

    preset = yaml.safe_load(Path("configs/agent/mtrl.yaml").read_text())
    config = AgentConfig(**preset | {"hidden_sizes": [8], "replay_capacity": 8, "initial_temperature": math.exp(-0.7)})
    methods = [make_method(find_method("ls").config(), 3, network) for network in range(2)]
    learner = SACLearner(Problem(("a", "b", "c"), 4, 2, np.ones((3, 2), np.float32)), config, *methods, 0, "cpu")
    learner._temperature_step(-log_pi_KB.mean(1))
    torch.testing.assert_close(learner.log_temperature.grad[0], log_alpha.grad)


def test_the_target_networks_step(mtrl: Any) -> None:
    torch.manual_seed(0)
    net, target = nn.Linear(3, 2), nn.Linear(3, 2)
    ours = [parameter.detach().clone() for parameter in target.parameters()]
    for mine, parameter in zip(ours, net.parameters(), strict=True):
        mine.lerp_(parameter.detach(), 0.005)
    mtrl.utils.soft_update_params(net, target, 0.005)
    for mine, theirs in zip(ours, target.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach())
