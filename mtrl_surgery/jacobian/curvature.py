"""Multi-task curvature: how much the mean loss bends along its gradient, over a step (Yu et al., arXiv 2001.06782).

Definition 3 of the paper, with L the *mean* of the K task losses (the paper's L is the sum of two; the sum of K losses
has K^3 times this H, and K times its normalised value):

    H(L; theta, theta') = integral over a in [0, 1] of g^T Hess L(theta + a (theta' - theta)) g,    g = grad L(theta).

The integral is a Gauss-Legendre sum over n nodes, exact where the integrand is a polynomial of degree 2n - 1 in a; a
quadratic loss has degree 0. One node, the middle of the step, errs by 1/24 of the integrand's second derivative in a:
0.1 % or less of H on SAC's critics, whose step is short.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mtrl_surgery.jacobian.grouped import TaskLosses
from mtrl_surgery.jacobian.parameters import FlatParameters

RADIUS = 0.1  # of a central difference, in units of eps^(1/3) times the parameters' norm


def multi_task_curvature(task_losses: TaskLosses, theta_P: Tensor, step_P: Tensor, nodes: int = 1) -> dict[str, Tensor]:
    """The curvature over a step, by exact Hessian-vector products (two backward passes a node).

    Args:
        task_losses: theta_P -> losses_K, twice differentiable by autograd.
        theta_P: where the step starts.
        step_P: theta' - theta.
        nodes: of the Gauss-Legendre sum, at least 1.

    Returns:
        curvature: H.
        normalised_curvature: H / |g|^2, the second derivative of L in the direction of g; 0 where g is zero.

        Float64 scalars, without waiting for the device. A NaN on the way makes NaN of both.
    """
    gradient_P = _mean_gradient(task_losses, theta_P.detach().requires_grad_())
    norm, unit_P = _length_and_unit(gradient_P)

    def bend(share: float) -> Tensor:
        point_P = (theta_P.detach() + share * step_P.detach()).requires_grad_()
        slope = _mean_gradient(task_losses, point_P, create_graph=True) @ unit_P
        if not slope.requires_grad:  # the losses are linear
            return torch.zeros_like(slope)
        (product_P,) = torch.autograd.grad(slope, point_P, materialize_grads=True)
        return product_P @ unit_P

    return _measures(_integral(bend, nodes), norm)


def curvature_of_last_step(
    task_losses: TaskLosses,
    parameters: FlatParameters,
    step_P: Tensor,
    gradient_P: Tensor,
    nodes: int = 1,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The curvature over the step that led to where the parameters are, by central differences of gradients.

    For networks whose backward can't be differentiated again (`TaskMLP`): with the unit vector u = g / |g|,
    u^T Hess L u is the difference of grad L at +r u and -r u, by u, over 2 r. What is cut off is r^2 / 6 times a fourth
    derivative, what is rounded off about eps |g| / r. A radius r of `RADIUS` eps^(1/3) |theta| keeps both near 1e-4 of
    the result on SAC's critics in float32. Kinks of a ReLU within the radius count as bends; exact products of
    the Hessian leave them out.

    The parameters are moved, and put back to the bit; two backward passes a node.

    Args:
        task_losses: see `TaskLosses`; called twice a node.
        parameters: as they are after the step.
        step_P: theta' - theta.
        gradient_P: g, the gradient of the mean loss before the step.
        nodes: of the Gauss-Legendre sum, at least 1.
        mean: over several learners, whose losses are of a share of the batch each: the curvature is linear in the loss.

    Returns:
        As `multi_task_curvature`.
    """
    vector_P = parameters.vector_P
    end_P = vector_P.clone()
    norm, unit_P = _length_and_unit(gradient_P)
    reach = torch.linalg.vector_norm(end_P) + torch.linalg.vector_norm(step_P)
    radius = RADIUS * math.cbrt(torch.finfo(end_P.dtype).eps) * torch.where(reach == 0, 1.0, reach)

    def gradient_at(share: float, shift: Tensor) -> Tensor:
        vector_P.copy_(end_P + (share - 1.0) * step_P + shift * unit_P)
        return _mean_gradient(task_losses, parameters.leaf())

    def bend(share: float) -> Tensor:
        return (gradient_at(share, radius) - gradient_at(share, -radius)) @ unit_P / (2.0 * radius)

    try:
        bent = _integral(bend, nodes)
        return _measures(bent if mean is None else mean(bent), norm)
    finally:
        vector_P.copy_(end_P)


def _mean_gradient(task_losses: TaskLosses, theta_P: Tensor, create_graph: bool = False) -> Tensor:
    (gradient_P,) = torch.autograd.grad(task_losses(theta_P).mean(), theta_P, create_graph=create_graph)
    return gradient_P


def _length_and_unit(gradient_P: Tensor) -> tuple[Tensor, Tensor]:
    norm = torch.linalg.vector_norm(gradient_P)
    return norm, gradient_P / torch.where(norm == 0, 1.0, norm)


def _integral(integrand: Callable[[float], Tensor], nodes: int) -> Tensor:
    """Over [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)  # for [-1, 1]
    shares, halves = (0.5 + 0.5 * points).tolist(), (0.5 * weights).tolist()
    return torch.stack([half * integrand(share) for share, half in zip(shares, halves, strict=True)]).sum()


def _measures(normalised: Tensor, norm: Tensor) -> dict[str, Tensor]:
    normalised = normalised.double()
    return {"curvature": normalised * norm.double().square(), "normalised_curvature": normalised}
