"""The parts of SAC that `agent=mtrl` reproduces, against the mtrl package itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from agents.networks import bound_log_std, squashed_gaussian


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


def test_the_target_networks_step(mtrl: Any) -> None:
    torch.manual_seed(0)
    net, target = nn.Linear(3, 2), nn.Linear(3, 2)
    ours = [parameter.detach().clone() for parameter in target.parameters()]
    for mine, parameter in zip(ours, net.parameters(), strict=True):
        mine.lerp_(parameter.detach(), 0.005)
    mtrl.utils.soft_update_params(net, target, 0.005)
    for mine, theirs in zip(ours, target.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach())
