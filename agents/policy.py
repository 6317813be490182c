"""The actor on a rollout worker: one task at a time, CPU, fixed shapes."""

from __future__ import annotations

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
    """

    def __init__(self, problem: Problem, config: AgentConfig) -> None:
        self._config = config
        self._mask_KA = torch.from_numpy(np.asarray(problem.action_mask_KA, dtype=np.float32))
        self._observation_dim = problem.observation_dim
        self._num_tasks = problem.num_tasks
        sizes = actor_sizes(problem, config)
        self._parameters = initial_mlp(1, sizes, config.initializer, torch.Generator().manual_seed(0))
        self._normalizes = config.observation_normalization == "warmup"
        self._mean_O, self._scale_O = torch.zeros(2, problem.observation_dim)
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first_bias_KH = torch.empty(0)

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
        self._first_bias_KH = bias_H + code_KH if self._config.one_hot else bias_H.expand(self._num_tasks, -1)

    @torch.inference_mode()
    def __call__(self, task: int, obs_NO: np.ndarray, noise_NA: np.ndarray) -> np.ndarray:
        """Sample actions_NA in [-1, 1] from standard normal noise."""
        mean_NA, log_std_NA = self._head(task, obs_NO)
        config = self._config
        log_std_NA = bound_log_std(log_std_NA, config.log_std_min, config.log_std_max, config.log_std_bound)
        action_NA = torch.tanh(mean_NA + log_std_NA.exp() * torch.from_numpy(noise_NA.astype(np.float32)))
        return (action_NA * self._mask_KA[task]).numpy()

    @torch.inference_mode()
    def mode(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        """The deterministic actions_NA: the squashed mean."""
        mean_NA, _ = self._head(task, obs_NO)
        return (torch.tanh(mean_NA) * self._mask_KA[task]).numpy()

    def _head(self, task: int, obs_NO: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._layers:
            raise RuntimeError("the policy has no weights yet: call load() first")
        x = torch.from_numpy(obs_NO)
        if self._normalizes:
            x = normalize(x, self._mean_O, self._scale_O)
        for layer, (weight_IO, bias_O) in enumerate(self._layers):
            x = torch.addmm(bias_O if layer else self._first_bias_KH[task], x, weight_IO)
            if layer < len(self._layers) - 1:
                x = x.relu_()
        mean_NA, log_std_NA = x.chunk(2, dim=-1)
        return mean_NA, log_std_NA


def actor_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of the actor, from (coded) observation to means and log standard deviations."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code, *config.hidden_sizes, 2 * problem.action_dim]


def critic_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of a critic, from (coded) observation and action to one value."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code + problem.action_dim, *config.hidden_sizes, 1]
