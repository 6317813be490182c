"""Arrays that hold one problem's numbers in each of S lanes, and look like one problem's to a method's code.

A call of NumPy or Torch on two numbers costs a hundred times their arithmetic. So a method's own `solve` runs once for
all starts, on arrays of this kind: what it takes for a scalar, a [K] or a [K, P] is a [S], a [K, S] or a [K, P, S]. The
lane axis is the last, where NumPy's broadcasting leaves it alone; what one lane does no other sees.

It is what `torch.func.vmap` does, in NumPy, at a tenth of the cost, for the operations that our methods use. Others
raise an error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from experiments_vision.toy import lane_functions as functions
from experiments_vision.toy.lane_functions import FUNCTIONS, Data
from mtrl_surgery.methods._solvers.arrays import Library

_CPU = torch.device("cpu")
_DTYPES = {
    np.dtype(np.float64): torch.float64, np.dtype(np.bool_): torch.bool,
    np.dtype(np.int16): torch.int16, np.dtype(np.int32): torch.int32, np.dtype(np.int64): torch.int64,
}  # fmt: skip
_OF_TORCH = {dtype: numpy for numpy, dtype in _DTYPES.items()}


def data_of(value: Any) -> Any:
    """What NumPy is to compute with: what all lanes share gets a lane axis of length 1; numbers stay numbers."""
    kind = type(value)
    if kind is Lanes:
        return value.data
    if kind is float or kind is int:
        return value
    if kind is list or kind is tuple:
        return kind(map(data_of, value))
    array: Any = value.numpy() if kind is Tensor else value
    return np.asarray(array)[..., None] if isinstance(array, np.ndarray | np.generic) else array


def _lanewise(function: Callable[..., Any]) -> Any:
    """A function of data as one of lanes."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found = function(*map(data_of, args), **kwargs)
        return tuple(map(Lanes, found)) if type(found) is tuple else Lanes(found)

    return call


def _unary(function: Callable[[Data], Data]) -> Any:
    return lambda self: Lanes(function(self.data))


def _binary(function: Callable[..., Data]) -> Any:
    # Written out, since most of an operation's time is Python's.
    def forward(self: Lanes, other: Any) -> Lanes:
        return Lanes(function(self.data, other.data if type(other) is Lanes else data_of(other)))

    return forward


def _operator(function: Callable[..., Data]) -> Any:
    """An operator with its reflected form and that in place."""

    def reflected(self: Lanes, other: Any) -> Lanes:
        return Lanes(function(data_of(other), self.data))

    def in_place(self: Lanes, other: Any) -> Lanes:
        self.data[...] = function(self.data, data_of(other))
        return self

    return _binary(function), reflected, in_place


def _changing(name: str) -> Any:
    """Torch's method of that name with an underscore: in place."""
    function = FUNCTIONS[name]

    def change(self: Lanes, *args: Any, **kwargs: Any) -> Lanes:
        self.data[...] = function(self.data, *map(data_of, args), **kwargs)
        return self

    return change


def _reduction(function: Callable[..., Data]) -> Any:
    """Over one axis of the problem's, which NumPy calls `axis` and Torch `dim`; or over all."""

    def reduce(self: Lanes, axis: int | None = None, dim: int | None = None) -> Lanes:
        along = axis if dim is None else dim
        data = self.data
        if along is None:
            along, data = 0, data if data.ndim == 2 else data.reshape(-1, data.shape[-1])
        return Lanes(function(data, axis=along % (data.ndim - 1)))

    return reduce


def _call(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Lanes:
    """Torch's function of that name."""
    function, out = FUNCTIONS.get(name), kwargs.pop("out", None)
    if function is None:
        raise NotImplementedError(f"torch's {name} is not among the functions for lanes")
    data = function(*map(data_of, args), **kwargs)
    if out is None:
        return Lanes(data)
    out.data[...] = data
    return out  # type: ignore[no-any-return]


class Lanes:
    """S arrays of one shape.

    Args:
        data: [*shape, S]; not copied.
    """

    __slots__ = ("data",)
    __array_ufunc__ = None  # an ndarray on the left leaves the operation to us

    def __init__(self, data: Data) -> None:
        self.data = data

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Torch leaves a function to us where an argument is of this class."""
        return _call(function.__name__, args, dict(kwargs or {}))

    # What it looks like.

    @property
    def shape(self) -> tuple[int, ...]:
        """One problem's."""
        return self.data.shape[:-1]

    @property
    def ndim(self) -> int:
        """One problem's."""
        return self.data.ndim - 1

    @property
    def dtype(self) -> torch.dtype:
        """In Torch's words."""
        return _DTYPES[self.data.dtype]

    device = _CPU

    @property
    def library(self) -> Library:
        """See `library_of`."""
        return LANES

    def __dlpack__(self, **kinds: Any) -> Any:
        """For `torch.as_tensor`, by which solvers hand over what they found: plain numbers, [*shape, S]."""
        return np.ascontiguousarray(self.data).__dlpack__(**kinds)

    def __dlpack_device__(self) -> Any:
        """The host."""
        return self.data.__dlpack_device__()

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Lanes]:
        return map(Lanes, self.data)

    def __bool__(self) -> bool:
        raise TypeError("a Python branch on a value that may differ from lane to lane")

    # Its entries.

    def __getitem__(self, key: Any) -> Lanes:
        if type(key) is int or type(key) is slice:
            return Lanes(self.data[key])
        found = self.data[self._key(key)]
        if isinstance(key, Lanes | Tensor) and self.ndim > 1:
            found = np.moveaxis(found, key.ndim, -1)
        return Lanes(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[self._key(key)] = data_of(value)

    def _key(self, key: Any) -> Any:
        keys = key if type(key) is tuple else (key,)
        if not any(type(one) is Lanes or type(one) is Tensor for one in keys):
            return key
        # Whole numbers that choose entries; they may be a lane's own.
        rest = [slice(None)] * (self.ndim - len(keys))
        return *map(data_of, keys), *rest, np.arange(self.data.shape[-1])

    def diagonal(self) -> Lanes:
        """Of a square matrix."""
        return Lanes(np.einsum("kks->ks", self.data))

    def transpose(self, first: int, second: int) -> Lanes:
        """Two axes change places."""
        return Lanes(self.data.swapaxes(first, second))

    @property
    def T(self) -> Lanes:
        """Of a matrix; a vector stays as it is."""
        return self.transpose(0, 1) if self.ndim == 2 else self

    def unbind(self) -> tuple[Lanes, ...]:
        """Along the first axis."""
        return tuple(self)

    def view(self, *shape: Any) -> Lanes:
        """In another shape; or the same bytes as another dtype, where the last axis grows or shrinks."""
        if isinstance(shape[0], torch.dtype):
            bytes_last = np.ascontiguousarray(self.data.swapaxes(-1, -2))
            return Lanes(bytes_last.view(_OF_TORCH[shape[0]]).swapaxes(-1, -2))
        return Lanes(self.data.reshape(*shape, self.data.shape[-1]))

    def expand(self, *shape: int) -> Lanes:
        """A copy, broadcast."""
        return Lanes(np.broadcast_to(self.data, (*shape, self.data.shape[-1])).copy())

    def sort(self, descending: bool) -> Any:
        """Of a vector; has `values` alone."""
        ordered = np.sort(self.data, axis=0)
        return SimpleNamespace(values=Lanes(ordered[::-1] if descending else ordered))

    def argsort(self, dim: int) -> Lanes:
        """Rising."""
        return Lanes(self.data.argsort(axis=dim))

    def fill_diagonal_(self, value: float) -> Self:
        """In place."""
        self.diagonal().data[...] = value
        return self

    # Copies and kinds.

    def numpy(self) -> Self:
        """Itself."""
        return self

    double = detach = contiguous = numpy

    def clone(self) -> Lanes:
        """A copy."""
        return Lanes(self.data.copy())

    def to(self, kind: Any, **_: Any) -> Lanes:
        """Of that dtype; there is one device."""
        change = isinstance(kind, torch.dtype) and _OF_TORCH[kind] != self.data.dtype
        return Lanes(self.data.astype(_OF_TORCH[kind])) if change else self

    def _filled(self, value: float, shape: tuple[Any, ...]) -> Lanes:
        sizes = shape[0] if shape and isinstance(shape[0], tuple) else shape
        return Lanes(np.full((*sizes, self.data.shape[-1]), value, self.data.dtype))

    def new_zeros(self, *shape: Any) -> Lanes:
        """Of the dtype."""
        return self._filled(0, shape)

    new_empty = new_zeros

    def new_ones(self, *shape: Any) -> Lanes:
        """Of the dtype."""
        return self._filled(1, shape)

    # Arithmetic.

    __add__, __radd__, __iadd__ = _operator(np.add)
    __sub__, __rsub__, __isub__ = _operator(np.subtract)
    __mul__, __rmul__, __imul__ = _operator(np.multiply)
    __truediv__, __rtruediv__, __itruediv__ = _operator(np.divide)
    __floordiv__, __rfloordiv__, __ifloordiv__ = _operator(np.floor_divide)
    __mod__, __rmod__, __imod__ = _operator(np.remainder)
    __pow__, __rpow__, __ipow__ = _operator(operator.pow)
    __matmul__, __rmatmul__, __imatmul__ = _operator(functions.matmul)
    __and__, __rand__, __iand__ = _operator(np.bitwise_and)
    __or__, __ror__, __ior__ = _operator(np.bitwise_or)
    __lt__, __le__, __gt__, __ge__ = map(_binary, (np.less, np.less_equal, np.greater, np.greater_equal))
    __eq__, __ne__ = map(_binary, (np.equal, np.not_equal))
    __neg__, __abs__, __invert__ = map(_unary, (np.negative, np.abs, np.invert))
    __hash__ = None  # type: ignore[assignment]

    abs, sqrt, square, exp, log = map(_unary, (np.abs, np.sqrt, np.square, np.exp, np.log))
    log1p, cos, sign = map(_unary, (np.log1p, np.cos, np.sign))
    clamp, softmax = _lanewise(functions.clamp), _lanewise(functions.softmax)
    mul_, add_, lerp_, copy_ = map(_changing, ("mul", "add", "lerp", "copy"))
    addcmul_, addmv_, bitwise_and_ = map(_changing, ("addcmul", "addmv", "bitwise_and"))
    bitwise_xor_, bitwise_right_shift_ = map(_changing, ("bitwise_xor", "bitwise_right_shift"))
    sum, mean, cumsum = _reduction(np.add.reduce), _reduction(functions.mean), _reduction(np.add.accumulate)
    min, max = _reduction(np.minimum.reduce), _reduction(np.maximum.reduce)
    any, all = _reduction(np.logical_or.reduce), _reduction(np.logical_and.reduce)
    amin, amax = min, max


_SHARED = ("where", "minimum", "maximum", "fmin", "stack", "zeros_like")
LANES = Library(
    np=SimpleNamespace(
        inf=np.inf,
        arange=np.arange,
        linalg=SimpleNamespace(eigh=_lanewise(functions.eigh), svd=_lanewise(functions.svd)),
        diag=_lanewise(functions.diag),
        **{name: _lanewise(getattr(np, name)) for name in _SHARED},
    ),
    at_least=_lanewise(np.maximum),
    at_most=_lanewise(np.minimum),
    solve=_lanewise(functions.solve),
    may_look=False,  # one start's value is not another's
    settled=lambda done: bool(done.data.all()),
    tensor=lambda array: array,
)
"""For the solvers that are written in what NumPy and Torch share."""
