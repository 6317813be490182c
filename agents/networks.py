"""The parameters of actor and critics, and the squashed Gaussian.

Every network is an ensemble of perceptrons (`mtrl_surgery.jacobian.task_mlp`); the actor's has one member.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mtrl_surgery.jacobian.parameters import FlatParameters

OUTPUT_RANGE = 1e-3  # of he_uniform's last layer: so small that a new policy is centred


def initial_mlp(
    members: int,
    sizes: Sequence[int],
    initializer: str,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> FlatParameters:
    """Parameters of E multi-layer perceptrons with layers of the given sizes.

    Args:
        members: E.
        sizes: widths from input to output.
        initializer: `he_uniform` (He et al., arXiv 1502.01852) for the hidden layers, or `xavier_uniform` (Glorot and
            Bengio, 2010, equation 16) for all; biases start at zero.
        generator: the source of randomness, on the CPU so that every device starts alike.
        device: where the parameters live.
    """
    parameters: dict[str, Tensor] = {}
    last = len(sizes) - 2
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if initializer == "xavier_uniform":
            bound = math.sqrt(6.0 / (fan_in + fan_out))
        else:
            bound = OUTPUT_RANGE if layer == last else math.sqrt(6.0 / fan_in)
        weight_EIO = torch.empty(members, fan_in, fan_out)
        parameters[f"weight{layer}"] = weight_EIO.uniform_(-bound, bound, generator=generator)
        parameters[f"bias{layer}"] = torch.zeros(members, 1, fan_out)
    return FlatParameters(parameters, device)


def bound_log_std(log_std: Tensor, low: float, high: float, bound: str) -> Tensor:
    """Keep log standard deviations inside [low, high], by clamping or by a rescaled tanh (mtrl)."""
    if bound == "tanh":
        return low + 0.5 * (high - low) * (torch.tanh(log_std) + 1.0)
    return log_std.clamp(low, high)


def squashed_gaussian(
    mean_KBA: Tensor, log_std_KBA: Tensor, noise_KBA: Tensor, mask_K1A: Tensor
) -> tuple[Tensor, Tensor]:
    """Reparameterised action of a tanh-squashed Gaussian (SAC, appendix C).

    Args:
        mean_KBA: means before the squashing.
        log_std_KBA: log standard deviations before the squashing.
        noise_KBA: standard normal noise.
        mask_K1A: 1 for the coordinates that a task uses; the others are 0 in the action and absent from its density.

    Returns:
        (action_KBA in (-1, 1), log_prob_KB in nats).
    """
    unsquashed_KBA = mean_KBA + log_std_KBA.exp() * noise_KBA
    action_KBA = torch.tanh(unsquashed_KBA) * mask_K1A
    # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), which doesn't cancel for large |u|.
    log_slope_KBA = 2.0 * (math.log(2.0) - unsquashed_KBA - functional.softplus(-2.0 * unsquashed_KBA))
    log_normal_KBA = -0.5 * noise_KBA.square() - log_std_KBA - 0.5 * math.log(2.0 * math.pi)
    return action_KBA, ((log_normal_KBA - log_slope_KBA) * mask_K1A).sum(-1)
