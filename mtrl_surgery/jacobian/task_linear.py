"""A linear layer whose weights may carry a leading task axis: the batched backward that makes a Jacobian cheap.

Each sample belongs to one task, so with a task-major batch the per-task weight gradients are one batched matrix
product; nothing walks the batch K times. Giving a *shared* weight a leading task axis of stride zero
(`weight.expand(K, ...)`) tells autograd to keep the tasks apart, while the forward and the gradient of the input stay the
one large product of the plain layer. A *task-owned* weight (a head) has a real leading axis and needs no other code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def task_linear(x_EKBI: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply E linear layers to a task-major batch.

    Args:
        x_EKBI: inputs, [member, task, batch, in].
        weight: [E, I, O] for shared weights, or [K, E, I, O] to get gradients by task; a leading axis of stride zero
            means that the tasks share the weight.
        bias: [E, O] or [K, E, O], with a task axis exactly where `weight` has one.

    Returns:
        y_EKBO.
    """
    if weight.dim() == 4:
        return _TaskLinear.apply(x_EKBI, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    members, tasks, batch, _ = x_EKBI.shape
    rows_ERI = x_EKBI.reshape(members, tasks * batch, -1)
    return torch.baddbmm(bias.unsqueeze(1), rows_ERI, weight).view(members, tasks, batch, -1)


class _TaskLinear(torch.autograd.Function):
    """Forward as for shared weights, backward with one weight gradient a task."""

    @staticmethod
    def forward(ctx: Any, x_EKBI: Tensor, weight_KEIO: Tensor, bias_KEO: Tensor) -> Tensor:
        ctx.save_for_backward(x_EKBI, weight_KEIO)
        if weight_KEIO.stride(0) == 0:
            return task_linear(x_EKBI, weight_KEIO[0], bias_KEO[0])
        # Owned weights: one product for each (member, task) pair.
        return torch.matmul(x_EKBI, weight_KEIO.transpose(0, 1)) + bias_KEO.transpose(0, 1).unsqueeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_EKBO: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[override]
        x_EKBI, weight_KEIO = ctx.saved_tensors
        members, tasks, batch, _ = grad_EKBO.shape
        grad_x_EKBI = None
        if ctx.needs_input_grad[0]:
            if weight_KEIO.stride(0) == 0:
                rows_ERO = grad_EKBO.reshape(members, tasks * batch, -1)
                grad_x_EKBI = torch.bmm(rows_ERO, weight_KEIO[0].transpose(1, 2)).view(x_EKBI.shape)
            else:
                grad_x_EKBI = torch.matmul(grad_EKBO, weight_KEIO.transpose(0, 1).transpose(2, 3))
        grad_weight_EKIO = torch.matmul(x_EKBI.transpose(2, 3), grad_EKBO)
        return grad_x_EKBI, grad_weight_EKIO.transpose(0, 1), grad_EKBO.sum(2).transpose(0, 1)
