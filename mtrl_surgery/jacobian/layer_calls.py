"""Notes on the graph of a forward pass: which call of a layer made a node.

A note lives as long as its node, so a pass that is never differentiated leaves nothing behind.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from mtrl_surgery.jacobian.layer_rules import RULES, LayerCall
from mtrl_surgery.jacobian.shared_graph import Edge

_CALL, _OUTPUT, _MIXES = "mtrl_surgery.call", "mtrl_surgery.output", "mtrl_surgery.mixes"


def _notes(node: Node) -> dict[str, Any]:
    return cast(dict[str, Any], node.metadata)  # torch's stub calls it a method


def call_of(node: Node) -> LayerCall | None:
    """The layer's call whose output the node made."""
    found: LayerCall | None = _notes(node).get(_CALL)
    return found


def is_output(edge: Edge) -> bool:
    """Whether the edge is an output of a watched model."""
    return edge[1] in _notes(edge[0]).get(_OUTPUT, ())


def mixes_rows(node: Node) -> bool:
    """Whether one row of the node's output depends on other rows of its input."""
    return _MIXES in _notes(node)


class _Noting(TorchFunctionMode):
    """Notes the calls of functions that have a rule."""

    _rows: int | None = None
    """B within attention, whose tensors are [length, B, width]."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward and args and args[0].dim() == 3:
            with self:  # its projections are calls of `linear`
                self._rows = args[0].shape[1]
                try:
                    return _attention(*args, **kwargs)
                finally:
                    self._rows = None
        out = func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is not None and out.grad_fn is not None:
            call = rule(*args, **kwargs)
            call.rows = self._rows
            if call.supported:
                out.grad_fn.metadata[_CALL] = call
        elif func is F.batch_norm and out.grad_fn is not None and _is_training(*args, **kwargs):
            out.grad_fn.metadata[_MIXES] = True
        return out


_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    # Torch's function asks first whether a mode wants the whole call; this one is for its parts.
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda tensors: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)


def _is_training(
    input: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    *_: Any,
    **__: Any,
) -> bool:
    return training


class _Hooks:
    """Before and after a model's forward pass; of a class of its own, so that the model can be pickled."""

    def __init__(self) -> None:
        self._running: list[ExitStack] = []

    def begin(self, *_: object) -> None:
        stack = ExitStack()
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            stack.enter_context(_Noting())
        self._running.append(stack)

    def end(self, model: nn.Module, args: object, output: object) -> None:
        self._running.pop().close()
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                _notes(tensor.grad_fn).setdefault(_OUTPUT, set()).add(tensor.output_nr)


def watch(model: nn.Module) -> None:
    """Has every forward pass of the model that makes a graph leave its notes there."""
    hooks = _Hooks()
    model.register_forward_pre_hook(hooks.begin)
    model.register_forward_hook(hooks.end, always_call=True)


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of an output: a tensor, or a collection of outputs."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
