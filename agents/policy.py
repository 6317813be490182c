"""The actor on a rollout worker: CPU, fixed shapes, bits that depend on nothing but a task's own inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch

from agents.config import AgentConfig
from agents.networks import bound_log_std, initial_mlp
from agents.observations import normalize
from agents.problem import Problem

BLOCK = 10
"""Tasks that go through the layers together. A matrix of ten rows takes hardly longer than one row, whose weights have
to be fetched as well; more rows would be work for nothing where a worker has few tasks. Measured within collection,
blocks of ten take 3 to 8 % less of a vector step than blocks of five for ten tasks a worker, and for five that are no
neighbours; 5 % more for a worker with one task. Another size gives other last bits."""

_Index: TypeAlias = slice | np.ndarray


class Policy:
    """Actions for some tasks' N copies each.

    Tasks go in blocks that are the same wherever they're asked from: task k is always row k % 10 of block k // 10, and
    the rows of tasks that aren't asked for hold anything. So the shapes of a block's products are fixed, and a task's
    bits depend neither on which tasks share its worker nor on the number of threads: it computes on one, because a BLAS
    may add up in another order on two (MKL does on AMD's processors). One-hot codes are folded into the first bias when
    weights are loaded.

    Between two calls simulators take their steps and leave none of this code and few of the weights in the caches, so
    a call should touch little memory: layers write into buffers that stay, the rest is done in place, and no
    gradient is recorded, since nothing here asks for one.
    """

    def __init__(self, problem: Problem, config: AgentConfig) -> None:
        self._config = config
        self._observation_dim, self._num_tasks = problem.observation_dim, problem.num_tasks
        self._num_blocks = -(-problem.num_tasks // BLOCK)
        mask_KA = torch.from_numpy(np.asarray(problem.action_mask_KA, dtype=np.float32))
        self._masks_B1A = self._by_block(mask_KA)
        sizes = actor_sizes(problem, config)
        self._parameters = initial_mlp(1, sizes, config.initializer, torch.Generator().manual_seed(0))
        self._normalizes = config.observation_normalization == "warmup"
        self._mean_O, self._scale_O = torch.zeros(2, problem.observation_dim)
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first_biases_B1H: tuple[torch.Tensor, ...] = ()
        self._buffers: dict[int, _Buffers] = {}
        self._places: dict[tuple[int, ...], list[tuple[int, _Index, _Index]]] = {}

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
        self._first_biases_B1H = self._by_block(first_bias_KH)

    def __call__(self, tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        """Sample actions_KNA in [-1, 1] from standard normal noise, for these tasks."""
        config, action_KNA = self._config, np.empty_like(noise_KNA)
        with _one_thread():
            for block, places, rows in self._placed(tasks):
                at = self._forward(block, rows, obs_KNO[places])
                at.noise_array_BNA[rows] = noise_KNA[places]
                std_BNA = bound_log_std(at.log_std_BNA, config.log_std_min, config.log_std_max, config.log_std_bound)
                action_BNA = std_BNA.exp_().mul_(at.noise_BNA).add_(at.mean_BNA).tanh_().mul_(self._masks_B1A[block])
                action_KNA[places] = action_BNA.numpy()[rows]
        return action_KNA

    def mode(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        """The deterministic actions_NA of one task: the squashed mean."""
        block, row = divmod(task, BLOCK)
        with _one_thread():
            at = self._forward(block, row, obs_NO)
            return (torch.tanh(at.mean_BNA[row]) * self._masks_B1A[block][row]).numpy()

    def _by_block(self, values_KX: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[K, X] -> a [10, 1, X] for each block."""
        padded_KX = values_KX.new_zeros(self._num_blocks * BLOCK, values_KX.shape[1])
        padded_KX[: self._num_tasks] = values_KX
        return padded_KX.view(self._num_blocks, BLOCK, 1, -1).unbind()

    def _placed(self, tasks: Sequence[int]) -> list[tuple[int, _Index, _Index]]:
        """The blocks that these tasks are in; of each, which of these tasks, and their rows."""
        key = tuple(tasks)
        if key not in self._places:
            blocks: dict[int, tuple[list[int], list[int]]] = {}
            for place, task in enumerate(key):
                places, rows = blocks.setdefault(task // BLOCK, ([], []))
                places.append(place)
                rows.append(task % BLOCK)
            self._places[key] = [(block, _index(places), _index(rows)) for block, (places, rows) in blocks.items()]
        return self._places[key]

    def _forward(self, block: int, rows: _Index | int, obs_KNO: np.ndarray) -> _Buffers:
        """The last layer's output, in the buffers of this number of copies."""
        if not self._layers:
            raise RuntimeError("the policy has no weights yet: call load() first")
        copies = obs_KNO.shape[-2]
        at = self._buffers.get(copies)
        if at is None:
            widths = [bias_O.shape[-1] for _, bias_O in self._layers]
            at = self._buffers[copies] = _Buffers(copies, self._observation_dim, widths)
        at.obs_array_BNO[rows] = obs_KNO
        x = normalize(at.obs_RO, self._mean_O, self._scale_O) if self._normalizes else at.obs_RO
        last = len(self._layers) - 1
        for layer, (weight_IO, bias_O) in enumerate(self._layers):
            y = at.outputs[layer]
            if layer:
                torch.addmm(bias_O, x, weight_IO, out=y)
            else:
                torch.mm(x, weight_IO, out=y).view(BLOCK, copies, -1).add_(self._first_biases_B1H[block])
            x = y.relu_() if layer < last else y
        return at


class _Buffers:
    """Where a call for N copies puts what it reads and computes; the arrays share the tensors' memory.

    R are the rows of a block: those of its tasks' copies.
    """

    def __init__(self, copies: int, observation_dim: int, widths: Sequence[int]) -> None:
        self.obs_array_BNO = np.zeros((BLOCK, copies, observation_dim), np.float32)
        self.noise_array_BNA = np.zeros((BLOCK, copies, widths[-1] // 2), np.float32)
        self.obs_RO = torch.from_numpy(self.obs_array_BNO).view(BLOCK * copies, observation_dim)
        self.noise_BNA = torch.from_numpy(self.noise_array_BNA)
        self.outputs = [torch.empty(BLOCK * copies, width) for width in widths]
        self.mean_BNA, self.log_std_BNA = self.outputs[-1].view(BLOCK, copies, -1).chunk(2, dim=-1)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads == 1:  # as on every rollout worker
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _index(numbers: list[int]) -> _Index:
    """The index of these tasks in an array; a slice, which copies nothing, where they follow each other."""
    together = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return slice(numbers[0], numbers[0] + len(numbers)) if together else np.array(numbers)


def actor_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of the actor, from (coded) observation to means and log standard deviations."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code, *config.hidden_sizes, 2 * problem.action_dim]


def critic_sizes(problem: Problem, config: AgentConfig) -> list[int]:
    """Layer widths of a critic, from (coded) observation and action to one value."""
    code = problem.num_tasks if config.one_hot else 0
    return [problem.observation_dim + code + problem.action_dim, *config.hidden_sizes, 1]
