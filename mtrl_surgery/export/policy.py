"""A checkpoint's actor with a name and a shape for each tensor, as TorchScript and as ONNX."""

# No `from __future__ import annotations`: TorchScript reads a class's annotations as types, not as strings.

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
    """Take flat policy weights apart, as `agents.policy.Policy.load` does.

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


class ScriptedActor(nn.Module):
    """`forward(obs_NO, task_N) -> actions_NA`; rows may be of different tasks."""

    mean_O: Tensor
    scale_O: Tensor
    mask_KA: Tensor
    first_weight_OH: Tensor
    first_bias_KH: Tensor

    def __init__(self, tensors: ActorTensors) -> None:
        super().__init__()
        self.clip = tensors.clip
        self.register_buffer("mean_O", tensors.mean_O)
        self.register_buffer("scale_O", tensors.scale_O)
        self.register_buffer("mask_KA", tensors.mask_KA)
        self.register_buffer("first_weight_OH", tensors.weights_IO[0])
        self.register_buffer("first_bias_KH", tensors.first_bias_KH.contiguous())
        self.rest = nn.ModuleList()
        for weight_IO, bias_O in zip(tensors.weights_IO[1:], tensors.biases_O, strict=True):
            layer = nn.Linear(*weight_IO.shape)
            layer.weight.data, layer.bias.data = weight_IO.T.contiguous(), bias_O
            self.rest.append(layer.requires_grad_(False))

    def forward(self, obs_NO: Tensor, task_N: Tensor) -> Tensor:
        """The deterministic actions in [-1, 1]."""
        x = ((obs_NO - self.mean_O) * self.scale_O).clamp(-self.clip, self.clip)
        x = x @ self.first_weight_OH + self.first_bias_KH[task_N]
        for layer in self.rest:
            x = layer(torch.relu(x))
        return torch.tanh(x[:, : self.mask_KA.shape[1]]) * self.mask_KA[task_N]


def write_torchscript(tensors: ActorTensors, path: Path) -> None:
    """Write the module, for the CPU; `map_location` moves it."""
    with warnings.catch_warnings():
        # torch names torch.export as the successor, whose files need the same torch version to be read.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        script = torch.jit.script(ScriptedActor(tensors).eval())
        torch.jit.save(script, str(path))


OPSET = 17
_IR_VERSION = 8  # of that opset's time, so that old runtimes read the file too


def write_onnx(tensors: ActorTensors, path: Path) -> None:
    """Write a model with the inputs obs [N, O] float32 and task [N] int64, and the output action [N, A] float32."""
    from onnx import TensorProto, checker, helper, save

    graph = _Graph()
    x = graph.add("Sub", "obs", graph.constant("mean", tensors.mean_O.numpy()))
    x = graph.add("Mul", x, graph.constant("scale", tensors.scale_O.numpy()))
    if math.isfinite(tensors.clip):
        low, high = (graph.constant(name, np.float32(sign * tensors.clip)) for name, sign in (("low", -1), ("high", 1)))
        x = graph.add("Clip", x, low, high)
    first = graph.add("Gather", graph.constant("bias0", tensors.first_bias_KH.numpy()), "task")
    x = graph.add("Add", graph.add("MatMul", x, graph.constant("weight0", tensors.weights_IO[0].numpy())), first)
    for layer, (weight_IO, bias_O) in enumerate(zip(tensors.weights_IO[1:], tensors.biases_O, strict=True), start=1):
        weight, bias = weight_IO.numpy(), bias_O.numpy()
        if layer == len(tensors.biases_O):  # the means alone: the deterministic policy needs no standard deviations
            width = tensors.mask_KA.shape[1]
            weight, bias = weight[:, :width], bias[:width]
        product = graph.add("MatMul", graph.add("Relu", x), graph.constant(f"weight{layer}", weight))
        x = graph.add("Add", product, graph.constant(f"bias{layer}", bias))
    mask = graph.add("Gather", graph.constant("mask", tensors.mask_KA.numpy()), "task")
    graph.nodes.append(helper.make_node("Mul", [graph.add("Tanh", x), mask], ["action"]))

    observations, actions = tensors.mean_O.shape[0], tensors.mask_KA.shape[1]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [
                helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["N", observations]),
                helper.make_tensor_value_info("task", TensorProto.INT64, ["N"]),
            ],
            [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", actions])],
            graph.constants,
        ),
        producer_name="mtrl-surgery",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    save(model, str(path))


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str) -> str:
        from onnx import helper

        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output]))
        return output

    def constant(self, name: str, value: np.ndarray | np.floating[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name
