"""The actor's tensors, each with its own name and shape, out of a checkpoint's flat weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.observations import MAX_NORMALIZED
from agents.policy import actor_sizes
from agents.problem import Problem


@dataclass(frozen=True)
class ActorTensors:
    """A deterministic multi-task policy: actions = tanh(mean) * mask of the task.

    The task's one-hot code is folded into the first bias, which is why that one has a row a task. The last layer gives
    2A values: the means, then the log standard deviations.

    Attributes:
        weights_IO: One matrix a layer, [inputs, outputs].
        first_bias_KH: The first layer's bias for every task.
        biases_O: The biases of the other layers.
        mean_O: Subtracted from observations.
        scale_O: Multiplied to what is left.
        clip: Normalised observations are kept within +-clip; infinite where the agent does not normalise.
        mask_KA: 1 for the action coordinates that a task has.
    """

    weights_IO: list[Tensor]
    first_bias_KH: Tensor
    biases_O: list[Tensor]
    mean_O: Tensor
    scale_O: Tensor
    clip: float
    mask_KA: Tensor

    def named(self) -> dict[str, Tensor]:
        """The tensors by the names that they have in policy.safetensors."""
        layers = {f"layer{i}.weight": weight for i, weight in enumerate(self.weights_IO)}
        biases = {f"layer{i}.bias": bias for i, bias in enumerate([self.first_bias_KH, *self.biases_O])}
        rest = {"observation.mean": self.mean_O, "observation.scale": self.scale_O, "action.mask": self.mask_KA}
        return {name: tensor.contiguous() for name, tensor in (layers | biases | rest).items()}


def actor_tensors(problem: Problem, config: AgentConfig, weights_P: np.ndarray) -> ActorTensors:
    """Takes flat policy weights apart, as `agents.policy.Policy.load` does.

    Raises:
        ValueError: the vector doesn't have this network's length.
    """
    width, normalizes = problem.observation_dim, config.observation_normalization == "warmup"
    parameters = initial_mlp(1, actor_sizes(problem, config), config.initializer, torch.Generator().manual_seed(0))
    size = parameters.num_parameters
    expected = size + 2 * width * normalizes
    if weights_P.shape != (expected,):
        raise ValueError(f"policy weights have shape {weights_P.shape}, this actor has {expected} parameters")
    weights = torch.from_numpy(np.array(weights_P, dtype=np.float32))
    parameters.vector_P.copy_(weights[:size])
    mean_O, scale_O = weights[size:].view(2, width) if normalizes else (torch.zeros(width), torch.ones(width))

    views = parameters.views()
    count = len(views) // 2
    weights_IO = [views[f"weight{layer}"][0].clone() for layer in range(count)]
    biases_O = [views[f"bias{layer}"][0, 0].clone() for layer in range(count)]
    code_KH = weights_IO[0][width:]
    weights_IO[0] = weights_IO[0][:width]
    first_bias_KH = biases_O[0] + code_KH if config.one_hot else biases_O[0].expand(problem.num_tasks, -1)
    mask_KA = torch.from_numpy(np.asarray(problem.action_mask_KA, dtype=np.float32))
    clip = MAX_NORMALIZED if normalizes else float("inf")
    return ActorTensors(weights_IO, first_bias_KH, biases_O[1:], mean_O, scale_O, clip, mask_KA)
