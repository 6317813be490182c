"""Per-task weight gradients of single layers, each as one grouped product of the layer's input and its cotangent.

A rule is that of one function of `torch.nn.functional`, whatever module calls it.
B counts the rows of a batch, G groups of rows (a task each), N the rows of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from mtrl_surgery.jacobian.shared_graph import Edge, edge_of

Group = Callable[[Tensor], Tensor]
"""[B, ...] -> [G, N, ...]; a group of fewer rows than N is filled up with zeros."""


class LayerCall(ABC):
    """One call of a layer in a forward pass.

    Attributes:
        input: Its argument, detached.
        edges: The edges of the graph that its arguments come from; parameters are left out.
        named: The parameters that need a gradient, by name.
        rows: B where axis 1 counts rows, and axis 0 perhaps the pairs of both, as within attention; None for axis 0.
    """

    def __init__(self, *inputs: Tensor, **parameters: Tensor | None) -> None:
        self.edges: list[Edge] = [edge_of(tensor) for tensor in inputs if tensor.requires_grad]
        self.input = (inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)).detach()
        self.named = {name: p for name, p in parameters.items() if p is not None and p.requires_grad}
        self.rows: int | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return self.input.shape[0] if self.rows is None else self.rows

    @property
    def supported(self) -> bool:
        """Whether the gradients can be made here: a parameter that was computed from others has none of its own."""
        return bool(self.named) and all(p.is_leaf and not p.is_complex() for p in self.named.values())

    def gradients(self, names: Iterable[str], cotangent: Tensor, group: Group, dtype: torch.dtype) -> dict[str, Tensor]:
        """Parameters' gradients for each group, [G, *shape], by the parameters' names."""
        grad_GN, input_GN = group(self._by_row(cotangent)).to(dtype), group(self._by_row(self.input))
        return {name: self.gradient(name, input_GN, grad_GN) for name in names}

    def _by_row(self, tensor: Tensor) -> Tensor:
        """Axis 0 counts rows."""
        if self.rows is None:
            return tensor
        return (tensor.unflatten(0, (-1, self.rows)) if tensor.dim() == 2 else tensor).transpose(0, 1)

    @abstractmethod
    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """One parameter's gradient, [G, *shape], from the grouped input and cotangent, [G, N, ...] each."""


class Linear(LayerCall):
    """y = x W^T + b over the last axis."""

    def __init__(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(input, weight=weight, bias=bias)

    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """See `LayerCall`."""
        grad_GRO = grad_GN.flatten(1, -2)
        if name == "bias":
            return grad_GRO.sum(1)
        return grad_GRO.mT @ input_GN.to(grad_GRO.dtype).flatten(1, -2)


class Bilinear(LayerCall):
    """y_o = x1^T W_o x2 + b_o over the last axes."""

    def __init__(self, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(input1, input2, weight=weight, bias=bias)
        self.split = input1.shape[-1]

    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """See `LayerCall`."""
        grad_GRO = grad_GN.flatten(1, -2)
        if name == "bias":
            return grad_GRO.sum(1)
        first_GRI, second_GRJ = input_GN.to(grad_GRO.dtype).flatten(1, -2).tensor_split([self.split], dim=-1)
        return torch.einsum("gro,gri,grj->goij", grad_GRO, first_GRI, second_GRJ)


class Conv(LayerCall):
    """A convolution over one to three axes of space: x [B, C, ...]."""

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(input, weight=weight, bias=bias)
        self.shape, self.groups = weight.shape, groups
        self.options = {"stride": stride, "padding": padding, "dilation": dilation}

    @property
    def supported(self) -> bool:
        """See `LayerCall`; padding by name and inputs without a batch axis are left to autograd."""
        return (
            super().supported and not isinstance(self.options["padding"], str) and self.input.dim() == len(self.shape)
        )

    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """See `LayerCall`."""
        if name == "bias":
            return grad_GN.flatten(3).sum((1, 3))
        weight_gradient: Callable[..., Tensor] = _CONV_WEIGHT[len(self.shape)]
        rows = [
            weight_gradient(x_N, self.shape, grad_N, groups=self.groups, **self.options)
            for x_N, grad_N in zip(input_GN.to(grad_GN.dtype), grad_GN, strict=True)
        ]
        return torch.stack(rows)


_CONV_WEIGHT = {3: conv1d_weight, 4: conv2d_weight, 5: conv3d_weight}


class Normalised(LayerCall):
    """y = normalise(x) * w + b; the normalisation has no parameters and keeps rows apart."""

    def __init__(
        self,
        input: Tensor,
        normalise: Callable[[Tensor], Tensor],
        axis: int,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> None:
        """Args beyond `LayerCall`'s: normalise: [B, ...] -> [B, ...]; axis: the first of those that the weight has."""
        super().__init__(input, weight=weight, bias=bias)
        self.normalise, self.axis = normalise, axis

    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """See `LayerCall`."""
        if name == "weight":
            grad_GN = grad_GN * self.normalise(input_GN.flatten(0, 1).to(grad_GN.dtype)).view_as(grad_GN)
        parameter = self.named[name]
        axes = set(range(1, grad_GN.dim())) - {self.axis + 1 + axis for axis in range(parameter.dim())}
        return grad_GN.sum(sorted(axes))


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> LayerCall:
    shape = list(normalized_shape)
    return Normalised(input, lambda x: F.layer_norm(x, shape, eps=eps), input.dim() - len(shape), weight, bias)


def _rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> LayerCall:
    shape = list(normalized_shape)
    return Normalised(input, lambda x: F.rms_norm(x, shape, eps=eps), input.dim() - len(shape), weight, None)


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> LayerCall:
    return Normalised(input, lambda x: F.group_norm(x, num_groups, eps=eps), 1, weight, bias)


class Embedding(LayerCall):
    """y = W[x]."""

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__(input, weight=weight)
        self.padding_idx, self._plain = padding_idx, max_norm is None and not scale_grad_by_freq and not sparse

    @property
    def supported(self) -> bool:
        """See `LayerCall`; options that change the gradient are left to autograd."""
        return super().supported and self._plain

    def gradient(self, name: str, input_GN: Tensor, grad_GN: Tensor) -> Tensor:
        """See `LayerCall`."""
        weight_VE, groups = self.named["weight"], len(grad_GN)
        first_G = torch.arange(groups, device=grad_GN.device) * len(weight_VE)
        words = (input_GN.flatten(1) + first_G[:, None]).flatten()
        grad_GVE = grad_GN.new_zeros(groups * len(weight_VE), weight_VE.shape[1])
        grad_GVE = grad_GVE.index_add(0, words, grad_GN.flatten(0, -2)).view(groups, *weight_VE.shape)
        if self.padding_idx is not None:
            grad_GVE[:, self.padding_idx] = 0.0
        return grad_GVE


RULES: Mapping[Any, Callable[..., LayerCall]] = {
    F.linear: Linear,
    F.bilinear: Bilinear,
    F.conv1d: Conv,
    F.conv2d: Conv,
    F.conv3d: Conv,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.embedding: Embedding,
}
