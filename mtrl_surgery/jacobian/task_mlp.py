"""An ensemble of perceptrons over a task-major batch whose backward keeps the tasks apart.

Each sample belongs to one task, so the weight gradients of all tasks are one batched matrix product a layer: the
Jacobian costs about what the gradient of the summed loss costs. The whole network is one autograd node, since at the
sizes of multitask SAC an update spends more time on dispatching operations than on arithmetic; forward and backward
are the fewest operations that do the work, and write the gradient where the method reads it, into [task, parameter].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtrl_surgery.jacobian.parameters import FlatParameters

NORM_EPS = 1e-5


class TaskMLP:
    """E multi-layer perceptrons with ReLU between the layers.

    With `layer_norm` every hidden layer is normalised before its ReLU, without a learned scale or shift.
    """

    def __init__(self, parameters: FlatParameters, layer_norm: bool = False) -> None:
        """Read a network laid out as weight0 [E, I, O], bias0 [E, 1, O], weight1, ..."""
        self.parameters = parameters
        self.layer_norm = layer_norm
        views = list(parameters.views().values())
        self.layers = list(zip(views[::2], views[1::2], strict=True))
        self.members = self.layers[0][0].shape[0]

    def __call__(self, x_KBI: Tensor, theta: Tensor | None = None) -> Tensor:
        """Apply all members to the same inputs.

        Args:
            x_KBI: inputs.
            theta: `parameters.leaf()` or `parameters.leaf(K)` to differentiate by the parameters; None where only the
                gradient of the inputs is wanted, if any.

        Returns:
            y_EKBO.

        Raises:
            ValueError: theta is another network's.
        """
        if theta is not None and theta.data_ptr() != self.parameters.vector_P.data_ptr():
            raise ValueError("theta must be a leaf of this network's own parameters")
        tasks, batch, width = x_KBI.shape
        x_ERI = x_KBI.reshape(1, tasks * batch, width).expand(self.members, -1, -1)
        y_ERO = _Ensemble.apply(x_ERI, theta, self, tasks)  # type: ignore[no-untyped-call]
        return y_ERO.view(self.members, tasks, batch, -1)  # type: ignore[no-any-return]


class _Ensemble(torch.autograd.Function):
    """Rows x_ERI through every layer; rows of a task are neighbours."""

    @staticmethod
    def forward(ctx: Any, x_ERI: Tensor, theta: Tensor | None, network: TaskMLP, tasks: int) -> Tensor:
        ctx.network, ctx.tasks, ctx.per_task = network, tasks, theta is not None and theta.dim() == 2
        inputs: list[Tensor] = []  # of each layer
        norms: list[tuple[Tensor, Tensor, Tensor]] = []
        last = len(network.layers) - 1
        for depth, (weight_EIO, bias_E1O) in enumerate(network.layers):
            inputs.append(x_ERI)
            x_ERI = torch.baddbmm(bias_E1O, x_ERI, weight_EIO)
            if depth < last:
                if network.layer_norm:
                    before_ERO = x_ERI
                    x_ERI, mean, scale = torch.native_layer_norm(
                        before_ERO, before_ERO.shape[-1:], None, None, NORM_EPS
                    )
                    norms.append((before_ERO, mean, scale))
                x_ERI = x_ERI.relu_()
        ctx.save_for_backward(*inputs, *(tensor for norm in norms for tensor in norm))
        return x_ERI

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ERO: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        network: TaskMLP = ctx.network
        saved = ctx.saved_tensors
        depths = len(network.layers)
        inputs, norms = saved[:depths], saved[depths:]
        wants_x, wants_theta = ctx.needs_input_grad[:2]
        slots, gradient = _slots(network, ctx.tasks if ctx.per_task else None, wants_theta)
        for depth in reversed(range(depths)):
            x_ERI, (weight_EIO, _) = inputs[depth], network.layers[depth]
            if wants_theta:
                write = _write_by_task if ctx.per_task else _write_sum
                write(x_ERI, grad_ERO, ctx.tasks, *slots[2 * depth : 2 * depth + 2])
            if depth == 0 and not wants_x:
                return None, gradient, None, None
            grad_ERO = torch.bmm(grad_ERO, weight_EIO.transpose(1, 2))
            if depth > 0:
                # A layer's input is what its predecessor's ReLU let through.
                grad_ERO = torch.ops.aten.threshold_backward(grad_ERO, x_ERI, 0)
                if network.layer_norm:
                    before, mean, scale = norms[3 * (depth - 1) : 3 * depth]
                    grad_ERO = torch.ops.aten.native_layer_norm_backward(
                        grad_ERO, before, before.shape[-1:], mean, scale, None, None, [True, False, False]
                    )[0]
        return grad_ERO, gradient, None, None


def _slots(network: TaskMLP, tasks: int | None, wanted: bool) -> tuple[list[Tensor], Tensor | None]:
    """Memory for the gradient by theta, and its views by parameter."""
    if not wanted:
        return [], None
    parameters = network.parameters
    gradient = torch.empty_like(parameters.vector_P) if tasks is None else parameters.borrow(tasks)
    return list(parameters.split(gradient).values()), gradient


def _write_sum(x_ERI: Tensor, grad_ERO: Tensor, tasks: int, weight_EIO: Tensor, bias_E1O: Tensor) -> None:
    torch.bmm(x_ERI.transpose(1, 2), grad_ERO, out=weight_EIO)
    torch.sum(grad_ERO, dim=1, keepdim=True, out=bias_E1O)


def _write_by_task(x_ERI: Tensor, grad_ERO: Tensor, tasks: int, weight_KEIO: Tensor, bias_KE1O: Tensor) -> None:
    members, rows, _ = grad_ERO.shape
    x_EKBI = x_ERI.unflatten(1, (tasks, rows // tasks))
    grad_EKBO = grad_ERO.view(members, tasks, rows // tasks, -1)
    for member in range(members):  # out= takes one batch stride: a product for each critic, over all tasks
        torch.bmm(x_EKBI[member].transpose(1, 2), grad_EKBO[member], out=weight_KEIO[:, member])
    bias_KE1O.copy_(grad_EKBO.sum(2, keepdim=True).transpose(0, 1))
