"""The actor on a rollout worker: one task at a time, CPU, fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from agents.config import AgentConfig
from agents.networks import bound_log_std, initial_mlp
from agents.observations import normalize
from agents.problem import Problem


class Policy:
    """Actions for one task's N copies.

    A call sees one task, [N, O] with N fixed, so its bits don't depend on which tasks share a worker nor on the number
    of threads. The task's one-hot code is folded into the first bias when weights are loaded.

    Between two calls a simulator takes its step and leaves none of this code and few of the weights in the caches, so
    what counts is how little a call touches: layers write into buffers that stay, and the rest is done in place.
    """

    def __init__(self, problem: Problem, config: AgentConfig) -> None:
        self._config = config
        self._masks = torch.from_numpy(np.asarray(problem.action_mask_KA, dtype=np.float32)).unbind()
        self._observation_dim = problem.observation_dim
        self._num_tasks = problem.num_tasks
        sizes = actor_sizes(problem, config)
        self._parameters = initial_mlp(1, sizes, config.initializer, torch.Generator().manual_seed(0))
        self._normalizes = config.observation_normalization == "warmup"
        self._mean_O, self._scale_O = torch.zeros(2, problem.observation_dim)
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first_biases: tuple[torch.Tensor, ...] = ()
        self._buffers: dict[int, _Buffers] = {}

    def load(self, weights_P: np.ndarray) -> None:
        """Take the actor's flat weights, followed by the observation statistics where the agent normalises.

        Raises:
            ValueError: the vector doesn't have this network's length.
        """
        size, width = self._parameters.num_parameters, self._observation_dim
        expected = size + 2 * width * self._normalizes
        if weights_P.shape != (expected,):
            raise ValueError(f"policy weights have shape {weights_P.shape}, this actor has {expected} parameters")
        # A copy: arrays out of Ray's object store are read-only and shared.
        weights = torch.from_numpy(np.array(weights_P, dtype=np.float32))
        self._parameters.vector_P.copy_(weights[:size])
        if self._normalizes:
            self._mean_O, self._scale_O = weights[size:].view(2, width)
        views = self._parameters.views()
        self._layers = [(views[f"weight{layer}"][0], views[f"bias{layer}"][0]) for layer in range(len(views) // 2)]
        weight_IH, bias_H = self._layers[0]
        self._layers[0] = (weight_IH[: self._observation_dim].contiguous(), bias_H)
        code_KH = weight_IH[self._observation_dim :]
        first_bias_KH = bias_H + code_KH if self._config.one_hot else bias_H.expand(self._num_tasks, -1)
        self._first_biases = first_bias_KH.unbind()

    @torch.inference_mode()
    def __call__(self, task: int, obs_NO: np.ndarray, noise_NA: np.ndarray) -> np.ndarray:
        """Sample actions_NA in [-1, 1] from standard normal noise."""
        at, config = self._forward(task, obs_NO), self._config
        at.noise_array_NA[:] = noise_NA
        std_NA = bound_log_std(at.log_std_NA, config.log_std_min, config.log_std_max, config.log_std_bound).exp_()
        return std_NA.mul_(at.noise_NA).add_(at.mean_NA).tanh_().mul_(self._masks[task]).numpy()

    @torch.inference_mode()
    def mode(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        """The deterministic actions_NA: the squashed mean."""
        return torch.tanh(self._forward(task, obs_NO).mean_NA).mul_(self._masks[task]).numpy()

    def _forward(self, task: int, obs_NO: np.ndarray) -> _Buffers:
        """The last layer's output, in the buffers of this number of copies."""
        if not self._layers:
            raise RuntimeError("the policy has no weights yet: call load() first")
        copies = len(obs_NO)
        at = self._buffers.get(copies)
        if at is None:
            widths = [bias_O.shape[-1] for _, bias_O in self._layers]
            at = self._buffers[copies] = _Buffers(copies, self._observation_dim, widths)
        at.obs_array_NO[:] = obs_NO
        x = normalize(at.obs_NO, self._mean_O, self._scale_O) if self._normalizes else at.obs_NO
        bias_O, last = self._first_biases[task], len(self._layers) - 1
        for layer, (weight_IO, own_bias_O) in enumerate(self._layers):
            torch.addmm(own_bias_O if layer else bias_O, x, weight_IO, out=at.outputs[layer])
            x = at.outputs[layer]
            if layer < last:
                x.relu_()
        return at


class _Buffers:
    """Where a call for N copies puts what it reads and computes; the arrays share the tensors' memory."""

    def __init__(self, copies: int, observation_dim: int, widths: Sequence[int]) -> None:
        self.obs_array_NO = np.empty((copies, observation_dim), np.float32)
        self.noise_array_NA = np.empty((copies, widths[-1] // 2), np.float32)
        self.obs_NO, self.noise_NA = torch.from_numpy(self.obs_array_NO), torch.from_numpy(self.noise_array_NA)
        self.outputs = [torch.empty(copies, width) for width in widths]
        self.mean_NA, self.log_std_NA = self.outputs[-1].chunk(2, dim=-1)


def actor_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of the actor, from (coded) observation to means and log standard deviations."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code, *config.hidden_sizes, 2 * problem.action_dim]


def critic_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of a critic, from (coded) observation and action to one value."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code + problem.action_dim, *config.hidden_sizes, 1]
