"""The backward pass of a 3 x 3 convolution for several tasks, with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, arXiv 1509.09308) computes a tile of 4 x 4 outputs by 36
products where the sum over the filter takes 144. Its adjoint, used here, does the same for the gradient by the input;
for that by the filter it shares the transformed input among the tasks, and the transformed cotangent with the first.
Exact but for rounding: in float32 the result is off by some 3e-6 of its norm, ten times what the sum itself is.

Letters: N samples of all tasks, S samples of one task, O and I channels out and in, H and W pixels, T tiles of a
task's samples, Q the 36 products of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from mtrl_surgery.jacobian.shared_graph import Node
from mtrl_surgery.jacobian.shared_pointwise import is_plain_convolution

TILE, REACH = 4, 6  # of outputs, and of the inputs that they see, along an axis
LEAST_CHANNELS, LEAST_PIXELS = 16, 256
"""Below (pixels of all of a task's samples), the transforms cost more than the products that they save."""
LEAST_ALONE = 64 * 64
"""The same of input times output channels, where one task goes through a convolution alone."""
PRODUCTS_BYTES = 2**23
"""Products of filters before they are transformed back: what stays in a core's cache."""
TRANSPOSED_BYTES = 2**17
"""Of a map, at once."""
BAND_BYTES, BAND_FILTERS = 14 * 2**20, 4
"""Transforms of a band: so many bytes, or so many times the filter's, which every band reads anew."""

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


def is_eligible(node: Node, alone: bool = False) -> bool:
    """Whether a node of the graph is a convolution that this can take over: 3 x 3 with padding 1, of some size.

    Args:
        node: Any.
        alone: Whether one task only goes through it, so that no transform serves two.
    """
    if not is_plain_convolution(node, (3, 3), padding=1):
        return False
    input_NIHW, channels = node._saved_input, node._saved_weight.shape[:2]
    enough = min(channels) >= LEAST_CHANNELS and (not alone or channels.numel() >= LEAST_ALONE)
    return bool(enough and input_NIHW.numel() // input_NIHW.shape[1] >= LEAST_PIXELS)


class Convolution:
    """One 3 x 3 convolution of the graph.

    The maps are passed in bands of tile rows, or of whole samples, whose transforms stay near the core.

    Args:
        node: An eligible one.
    """

    def __init__(self, node: Node) -> None:
        self._filter_OIhw: Tensor = node._saved_weight.detach()
        self._input_SIHW: Tensor = node._saved_input.detach()

    @torch.no_grad()
    def backward(self, cotangents: Sequence[Tensor], by_input: bool, filters_KOIhw: Tensor | None) -> list[Tensor]:
        """Several tasks' gradients.

        Args:
            cotangents: By the convolution's outputs, [S, O, H, W] for each of the K tasks.
            by_input: Whether those by the inputs are wanted.
            filters_KOIhw: Filled with those by the filter; None if they are not wanted.

        Returns:
            The gradients by the inputs, [S, I, H, W] a task; none if they are not wanted.
        """
        outputs, inputs = self._filter_OIhw.shape[:2]
        across = _tiles(self._input_SIHW.shape[3])
        tile_bytes = REACH * REACH * (outputs + inputs) * self._filter_OIhw.element_size()
        filter_bytes = REACH * REACH * outputs * inputs * self._filter_OIhw.element_size()
        room = max(BAND_BYTES, BAND_FILTERS * filter_bytes) // tile_bytes
        bands = _bands(self._input_SIHW.shape, room)
        tasks_at_once = max(1, room // (len(bands[0][0]) * len(bands[0][1]) * across))
        filter_QOI = self._spread_filter() if by_input else None
        sums_KQOI: Tensor | None = None
        if filters_KOIhw is not None and len(bands) > 1:
            sums_KQOI = filters_KOIhw.new_zeros(len(cotangents), REACH * REACH, outputs, inputs)
        results = [torch.empty_like(self._input_SIHW) for _ in cotangents] if by_input else []
        above: dict[int, Tensor] = {}
        for samples, rows in bands:
            input_QTI = None if filters_KOIhw is None else self._spread_input(samples, rows)
            for first in range(0, len(cotangents), tasks_at_once):
                tasks = range(first, min(first + tasks_at_once, len(cotangents)))
                cotangent_QTO = _spread_outputs([cotangents[task] for task in tasks], samples, rows)
                if filters_KOIhw is not None and input_QTI is not None:
                    by_task = cotangent_QTO.unflatten(1, (len(tasks), -1)).unbind(1)
                    for task, part_QTO in zip(tasks, by_task, strict=True):
                        if sums_KQOI is not None:
                            sums_KQOI[task].baddbmm_(part_QTO.transpose(1, 2), input_QTI)
                        else:
                            _filter_at_once(part_QTO, input_QTI, filters_KOIhw[task])
                if filter_QOI is not None:
                    products_QTI = torch.bmm(cotangent_QTO, filter_QOI)
                    parts = [results[task] for task in tasks]
                    above[first] = _gather_inputs(products_QTI, parts, samples, rows, above.get(first))
        if filters_KOIhw is not None and sums_KQOI is not None:
            for sums_QOI, result_OIhw in zip(sums_KQOI, filters_KOIhw, strict=True):
                torch.mm(sums_QOI.flatten(1).T, _matrices(sums_QOI.dtype)[1], out=result_OIhw.view(-1, 9))
        return results

    def _spread_filter(self) -> Tensor:
        """[36, O, I]."""
        outputs, inputs = self._filter_OIhw.shape[:2]
        filters = _matrices(self._filter_OIhw.dtype)[1]
        return (filters @ self._filter_OIhw.reshape(-1, 9).T).view(-1, outputs, inputs)

    def _spread_input(self, samples: range, rows: range) -> Tensor:
        """A band's inputs -> factors of the products, [36, tiles, I]; its tiles see a pixel around them."""
        height, width = self._input_SIHW.shape[2:]
        before, after = TILE * rows.start - 1, TILE * rows.stop + 1
        seen = slice(max(before, 0), min(after, height))
        x_NHWC = _channels_last([self._input_SIHW[samples.start : samples.stop, :, seen]])
        padding = (0, 0, 1, _tiles(width) * TILE - width + 1, seen.start - before, after - seen.stop)
        tiles = F.pad(x_NHWC, padding).unfold(1, REACH, TILE).unfold(2, REACH, TILE).permute(4, 5, 0, 1, 2, 3)
        inputs = _matrices(x_NHWC.dtype)[0]
        return (inputs @ tiles.reshape(REACH * REACH, -1)).view(REACH * REACH, -1, x_NHWC.shape[3])


def _tiles(pixels: int) -> int:
    return -(-pixels // TILE)


def _bands(shape: torch.Size, room: int) -> list[tuple[range, range]]:
    """Samples and rows of tiles that go together: about `room` tiles, whole samples if one has room."""
    samples, _, height, width = shape
    down, across = _tiles(height), _tiles(width)
    together = max(1, min(samples, room // (down * across)))
    pieces = -(-down // max(1, room // across)) if together == 1 else 1
    rows = -(-down // pieces)
    return [
        (range(first, min(first + together, samples)), range(top, min(top + rows, down)))
        for first in range(0, samples, together)
        for top in range(0, down, rows)
    ]


def _channels_last(parts: Sequence[Tensor]) -> Tensor:
    """Several [N, C, H, W] -> [all N, H, W, C], contiguous; a matrix at a time, which torch transposes fast."""
    samples, channels, height, width = parts[0].shape
    last_NPC = parts[0].new_empty(len(parts) * samples, height * width, channels)
    for part, x_NCHW in enumerate(parts):
        for sample, x_CP in enumerate(x_NCHW.reshape(samples, channels, height * width)):
            last_NPC[part * samples + sample].copy_(x_CP.T)
    return last_NPC.view(-1, height, width, channels)


def _spread_outputs(parts: Sequence[Tensor], samples: range, rows: range) -> Tensor:
    """A band of several tasks' cotangents of outputs [S, C, H, W] -> of the products, [36, tiles, C]."""
    height, width = parts[0].shape[2:]
    across = _tiles(width)
    seen = slice(TILE * rows.start, min(TILE * rows.stop, height))
    x_NHWC = _channels_last([part[samples.start : samples.stop, :, seen] for part in parts])
    channels = x_NHWC.shape[3]
    padding = (0, 0, 0, across * TILE - width, 0, TILE * rows.stop - height if rows.stop * TILE > height else 0)
    x_NHWC = F.pad(x_NHWC, padding) if any(padding) else x_NHWC
    tiles = x_NHWC.view(-1, len(rows), TILE, across, TILE, channels).permute(2, 4, 0, 1, 3, 5)
    outputs = _matrices(x_NHWC.dtype)[2]
    return (outputs @ tiles.reshape(TILE * TILE, -1)).view(REACH * REACH, -1, channels)


def _filter_at_once(cotangent_QTO: Tensor, input_QTI: Tensor, result_OIhw: Tensor) -> None:
    """One task's gradient by the filter where all tiles are at hand; by some of the output channels at a time."""
    outputs, inputs = result_OIhw.shape[:2]
    flat = result_OIhw.view(outputs * inputs, 9)
    band = max(1, PRODUCTS_BYTES // (REACH * REACH * inputs * flat.element_size()))
    for first in range(0, outputs, band):
        channels = slice(first, min(first + band, outputs))
        products_QOI = torch.bmm(cotangent_QTO[:, :, channels].transpose(1, 2), input_QTI)
        rows = slice(first * inputs, channels.stop * inputs)
        torch.mm(products_QOI.flatten(1).T, _matrices(flat.dtype)[1], out=flat[rows])


def _gather_inputs(
    products_QTC: Tensor, results: Sequence[Tensor], samples: range, rows: range, above_NWC: Tensor | None
) -> Tensor:
    """A band of several tasks' cotangents of products -> of inputs, [S, C, H, W] a task.

    A tile sees 6 x 6 inputs, of which the inner 4 x 4 are its own and the rim its neighbours'.

    Args:
        products_QTC: The band.
        results: Its rows are filled, and what it says of the last row above it is added there.
        samples: Of the band.
        rows: Of the band.
        above_NWC: What the band above says of this one's first row; only used if this one is not a sample's first.

    Returns:
        The same for the band below.
    """
    channels, height, width = results[0].shape[1:]
    down, across = len(rows), _tiles(width)
    inputs = _matrices(products_QTC.dtype)[0]
    spread = inputs.T @ products_QTC.reshape(REACH * REACH, -1)
    tiles = spread.view(REACH, REACH, -1, down, across, channels)
    tiles[TILE, :, :, :-1] += tiles[0, :, :, 1:]
    tiles[1, :, :, 1:] += tiles[TILE + 1, :, :, :-1]
    tiles[:, TILE, :, :, :-1] += tiles[:, 0, :, :, 1:]
    tiles[:, 1, :, :, 1:] += tiles[:, TILE + 1, :, :, :-1]
    own = slice(1, TILE + 1)
    padded = tiles.new_empty(tiles.shape[2], down, TILE, across, TILE, channels)
    padded.permute(2, 4, 0, 1, 3, 5).copy_(tiles[own, own])
    first, last = TILE * rows.start, min(TILE * rows.stop, height)
    pixels_NHWC = padded.view(-1, down * TILE, across * TILE, channels)[:, : last - first, :width]
    rim_NWC = _pixel_row(tiles[0, own, :, 0], width)
    if above_NWC is not None and first:
        pixels_NHWC[:, 0] += above_NWC
    maps = [result[sample] for result in results for sample in samples]
    for map_CHW, found_HWC, rim_WC in zip(maps, pixels_NHWC, rim_NWC, strict=True):
        _into_planes(map_CHW.view(channels, -1)[:, first * width : last * width], found_HWC.reshape(-1, channels))
        if first:
            map_CHW[:, first - 1] += rim_WC.T
    return _pixel_row(tiles[TILE + 1, own, :, -1], width)


def _pixel_row(tiles_4NTC: Tensor, width: int) -> Tensor:
    """One row of pixels of a row of tiles, [N, W, C]."""
    return tiles_4NTC.permute(1, 2, 0, 3).flatten(1, 2)[:, :width]


def _into_planes(to_CP: Tensor, from_PC: Tensor) -> None:
    """A transposed copy, some pixels at a time: of many, each plane's next one would find none of its line in cache."""
    pixels = max(1, TRANSPOSED_BYTES // (from_PC.shape[1] * from_PC.element_size()))
    for plane_CP, last_PC in zip(to_CP.split(pixels, 1), from_PC.split(pixels), strict=True):
        plane_CP.copy_(last_PC.T)
