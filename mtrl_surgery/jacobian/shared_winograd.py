"""The backward pass of a 3 x 3 convolution for several tasks, with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, arXiv 1509.09308) computes a tile of 4 x 4 outputs by 36
products where the sum over the filter takes 144. Its adjoint, used here, does the same for the gradient by the input;
for that by the filter it shares the transformed input among the tasks, and the transformed cotangent with the first.
Exact but for rounding: in float32 the result is off by some 3e-6 of its norm, ten times what the sum itself is.

Letters: N samples of all tasks, S samples of one task, O and I channels out and in, H and W pixels, T tiles of a
task's samples, Q the 36 products of a tile.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from mtrl_surgery.jacobian.shared_graph import Node, is_leaf

TILE, REACH = 4, 6  # of outputs, and of the inputs that they see, along an axis
LEAST_CHANNELS, LEAST_PIXELS = 16, 256
"""Below (pixels of all of a task's samples), the transforms cost more than the products that they save."""
PRODUCTS_BYTES = 2**23
"""Products of filters before they are transformed back: what stays in a core's cache."""

# For the points 0, 1, -1, 2, -2 and infinity; an output tile is A.T [(G filter G.T) * (B.T input B)] A.
_B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # over 24
_A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@cache
def _matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Both axes at once: input [36, 36], filter [36, 9], output [36, 16]."""
    inputs, filters, outputs = (torch.tensor(m, dtype=torch.float64) for m in (_B, _G, _A))
    one_axis = (inputs, filters / 24, outputs.T.contiguous())
    inputs, filters, outputs = (torch.kron(m, m).to(dtype) for m in one_axis)
    return inputs, filters, outputs


def is_eligible(node: Node) -> bool:
    """Whether a node of the graph is a convolution that this can take over.

    It is 3 x 3 with stride and padding 1, on a CPU, of some size; and its filter is a parameter without hooks, which
    would not be called.
    """
    if type(node).__name__ != "ConvolutionBackward0":
        return False
    filters = node.next_functions[1][0]
    if filters is None or not is_leaf(filters) or any(_has_hooks(leaf) for leaf, _ in node.next_functions[1:]):
        return False
    input_NIHW, filter_OIhw = node._saved_input, node._saved_weight
    return (
        tuple(filter_OIhw.shape[2:]) == (3, 3)
        and min(filter_OIhw.shape[:2]) >= LEAST_CHANNELS
        and input_NIHW.numel() // input_NIHW.shape[1] >= LEAST_PIXELS
        and input_NIHW.dtype in (torch.float32, torch.float64)
        and input_NIHW.dtype == filter_OIhw.dtype
        and input_NIHW.device.type == "cpu"
        and not node._saved_transposed
        and node._saved_groups == 1
        and all(set(v) == {1} for v in (node._saved_stride, node._saved_padding, node._saved_dilation))
    )


class Convolution:
    """One convolution of the graph.

    Args:
        node: An eligible one.
    """

    def __init__(self, node: Node) -> None:
        self._filter_OIhw: Tensor = node._saved_weight.detach()
        self._input_SIHW: Tensor = node._saved_input.detach()
        self._filter_QOI: Tensor | None = None
        self._input_QTI: Tensor | None = None

    @torch.no_grad()
    def backward(self, cotangent_SOHW: Tensor, by_input: bool, filter_OIhw: Tensor | None) -> Tensor | None:
        """One task's gradients.

        Args:
            cotangent_SOHW: By the convolution's outputs.
            by_input: Whether that by the inputs is wanted.
            filter_OIhw: Filled with that by the filter; None if it is not wanted.

        Returns:
            The gradient by the inputs, [S, I, H, W].
        """
        cotangent_QTO = _spread_outputs(_channels_last(cotangent_SOHW))
        if filter_OIhw is not None:
            self._by_filter(cotangent_QTO, filter_OIhw)
        if not by_input:
            return None
        if self._filter_QOI is None:
            outputs, inputs = self._filter_OIhw.shape[:2]
            filters = _matrices(cotangent_QTO.dtype)[1]
            self._filter_QOI = (filters @ self._filter_OIhw.reshape(-1, 9).T).view(-1, outputs, inputs)
        products_QTI = torch.bmm(cotangent_QTO, self._filter_QOI)
        return _gather_inputs(products_QTI, self._input_SIHW.shape)

    def _by_filter(self, cotangent_QTO: Tensor, result_OIhw: Tensor) -> None:
        if self._input_QTI is None:
            self._input_QTI = _spread_inputs(_channels_last(self._input_SIHW))
        outputs, inputs = result_OIhw.shape[:2]
        flat = result_OIhw.view(outputs * inputs, 9)
        band = max(1, PRODUCTS_BYTES // (REACH * REACH * inputs * flat.element_size()))
        for first in range(0, outputs, band):
            channels = slice(first, min(first + band, outputs))
            products_QOI = torch.bmm(cotangent_QTO[:, :, channels].transpose(1, 2), self._input_QTI)
            rows = slice(first * inputs, channels.stop * inputs)
            torch.mm(products_QOI.flatten(1).T, _matrices(flat.dtype)[1], out=flat[rows])


def _has_hooks(leaf: Node) -> bool:
    return leaf is not None and is_leaf(leaf) and bool(leaf.variable._backward_hooks)


def _tiles(pixels: int) -> int:
    return -(-pixels // TILE)


def _channels_last(x_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C], contiguous; a matrix at a time, which torch transposes fast."""
    samples, channels, height, width = x_NCHW.shape
    x_NCP = x_NCHW.reshape(samples, channels, height * width)
    last_NPC = x_NCHW.new_empty(samples, height * width, channels)
    for sample in range(samples):
        last_NPC[sample].copy_(x_NCP[sample].T)
    return last_NPC.view(samples, height, width, channels)


def _spread_outputs(x_NHWC: Tensor) -> Tensor:
    """Cotangents of outputs -> of the products, [36, tiles, C]."""
    samples, height, width, channels = x_NHWC.shape
    down, across = _tiles(height), _tiles(width)
    x_NHWC = F.pad(x_NHWC, (0, 0, 0, across * TILE - width, 0, down * TILE - height))
    tiles = x_NHWC.view(samples, down, TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    outputs = _matrices(x_NHWC.dtype)[2]
    return (outputs @ tiles.reshape(TILE * TILE, -1)).view(REACH * REACH, -1, channels)


def _spread_inputs(x_NHWC: Tensor) -> Tensor:
    """Inputs -> factors of the products, [36, tiles, C]."""
    height, width, channels = x_NHWC.shape[1:]
    down, across = _tiles(height), _tiles(width)
    padding = (0, 0, 1, across * TILE - width + 1, 1, down * TILE - height + 1)
    tiles = F.pad(x_NHWC, padding).unfold(1, REACH, TILE).unfold(2, REACH, TILE).permute(4, 5, 0, 1, 2, 3)
    inputs = _matrices(x_NHWC.dtype)[0]
    return (inputs @ tiles.reshape(REACH * REACH, -1)).view(REACH * REACH, -1, channels)


def _gather_inputs(products_QTC: Tensor, shape: torch.Size) -> Tensor:
    """Cotangents of the products -> of the inputs, [N, C, H, W]: the tiles overlap by 2 pixels, which add up."""
    samples, channels, height, width = shape
    down, across = _tiles(height), _tiles(width)
    inputs = _matrices(products_QTC.dtype)[0]
    spread = inputs.T @ products_QTC.reshape(REACH * REACH, -1)
    tiles = spread.view(REACH, REACH, samples, down, across, channels)
    tiles[:2, :, :, 1:] += tiles[TILE:, :, :, :-1]
    tiles[:, :2, :, :, 1:] += tiles[:, TILE:, :, :, :-1]
    padded = tiles.new_empty(samples, down + 1, TILE, across + 1, TILE, channels)
    to = padded.permute(2, 4, 0, 1, 3, 5)
    to[:, :, :, :down, :across] = tiles[:TILE, :TILE]
    to[:2, :, :, down, :across] = tiles[TILE:, :TILE, :, -1]
    to[:, :2, :, :down, across] = tiles[:TILE, TILE:, :, :, -1]
    to[:2, :2, :, down, across] = tiles[TILE:, TILE:, :, -1, -1]
    pixels = padded.view(samples, (down + 1) * TILE, (across + 1) * TILE, channels)
    found = pixels[:, 1 : height + 1, 1 : width + 1].reshape(samples, height * width, channels)
    result = found.new_empty(samples, channels, height * width)
    for sample in range(samples):
        result[sample].copy_(found[sample].T)
    return result.view(shape)
