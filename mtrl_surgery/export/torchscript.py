"""The policy as TorchScript, which `torch.jit.load` runs with torch alone, from Python or C++."""

# No `from __future__ import annotations`: TorchScript reads a class's annotations as types, not as strings.
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mtrl_surgery.export.actor import ActorTensors


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
    """Writes the module, for the CPU; `map_location` moves it."""
    with warnings.catch_warnings():
        # torch names torch.export as the successor, whose files need the same torch version to be read.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        script = torch.jit.script(ScriptedActor(tensors).eval())
        torch.jit.save(script, str(path))
