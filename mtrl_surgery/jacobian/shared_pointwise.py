"""The backward pass of a 1 x 1 convolution: two matrix products, on the maps as they lie.

On one thread torch goes through its general convolution there, which copies every map. Letters as in `shared_winograd`,
and P pixels of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_surgery.jacobian.shared_graph import Node, is_leaf

LEAST_PRODUCTS = 2**20
"""Multiplications for one sample: below, torch's own pass takes less time than the calls of this one."""


def is_plain_convolution(node: Node, size: tuple[int, int], padding: int) -> bool:
    """Whether a node of the graph is a convolution of stride 1 on a CPU, whose filter is a parameter.

    A filter or bias with hooks is left to autograd, which calls them.

    Args:
        node: Any.
        size: The filter's.
        padding: Along both axes.
    """
    if type(node).__name__ != "ConvolutionBackward0":
        return False
    filters = node.next_functions[1][0]
    if filters is None or not is_leaf(filters) or any(_has_hooks(leaf) for leaf, _ in node.next_functions[1:]):
        return False
    input_NIHW, filter_OIhw = node._saved_input, node._saved_weight
    return (
        tuple(filter_OIhw.shape[2:]) == size
        and input_NIHW.dtype in (torch.float32, torch.float64)
        and input_NIHW.dtype == filter_OIhw.dtype
        and input_NIHW.device.type == "cpu"
        and not node._saved_transposed
        and node._saved_groups == 1
        and set(node._saved_padding) == {padding}
        and all(set(v) == {1} for v in (node._saved_stride, node._saved_dilation))
    )


def is_eligible(node: Node) -> bool:
    """Whether a node of the graph is a 1 x 1 convolution of some size."""
    if not is_plain_convolution(node, (1, 1), padding=0):
        return False
    input_NIHW = node._saved_input
    return bool(node._saved_weight.numel() * input_NIHW[0, 0].numel() >= LEAST_PRODUCTS)


class Pointwise:
    """One 1 x 1 convolution of the graph.

    Args:
        node: An eligible one.
    """

    def __init__(self, node: Node) -> None:
        self._filter_OI: Tensor = node._saved_weight.detach()[:, :, 0, 0]
        self._input_SIHW: Tensor = node._saved_input.detach()

    @torch.no_grad()
    def backward(self, cotangents: Sequence[Tensor], by_input: bool, filters_KOIhw: Tensor | None) -> list[Tensor]:
        """Several tasks' gradients; as `shared_winograd.Convolution.backward`."""
        input_SIP = self._input_SIHW.flatten(2)
        results = []
        for task, cotangent_SOHW in enumerate(cotangents):
            cotangent_SOP = cotangent_SOHW.flatten(2)
            if filters_KOIhw is not None:
                sum_OI = filters_KOIhw[task, :, :, 0, 0].zero_()
                for cotangent_OP, input_IP in zip(cotangent_SOP, input_SIP, strict=True):
                    sum_OI.addmm_(cotangent_OP, input_IP.T)
            if by_input:
                results.append((self._filter_OI.T @ cotangent_SOP).view_as(self._input_SIHW))
        return results


def _has_hooks(leaf: Node) -> bool:
    return leaf is not None and is_leaf(leaf) and bool(leaf.variable._backward_hooks)
