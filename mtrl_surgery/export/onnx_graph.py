"""The policy as an ONNX graph, written operator by operator: no tracing, and no torch where it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mtrl_surgery.export.actor import ActorTensors

OPSET = 17
_IR_VERSION = 8  # of that opset's time, so that old runtimes read the file too


def write_onnx(tensors: ActorTensors, path: Path) -> None:
    """Writes a model with the inputs obs [N, O] float32 and task [N] int64, and the output action [N, A] float32."""
    from onnx import TensorProto, checker, helper, save

    graph = _Graph()
    x = graph.add("Sub", "obs", graph.constant("mean", tensors.mean_O.numpy()))
    x = graph.add("Mul", x, graph.constant("scale", tensors.scale_O.numpy()))
    if math.isfinite(tensors.clip):
        low, high = (graph.constant(name, np.float32(sign * tensors.clip)) for name, sign in (("low", -1), ("high", 1)))
        x = graph.add("Clip", x, low, high)
    first = graph.add("Gather", graph.constant("bias0", tensors.first_bias_KH.numpy()), "task")
    x = graph.add("Add", graph.add("MatMul", x, graph.constant("weight0", tensors.weights_IO[0].numpy())), first)
    for layer, (weight_IO, bias_O) in enumerate(zip(tensors.weights_IO[1:], tensors.biases_O, strict=True), start=1):
        weight, bias = weight_IO.numpy(), bias_O.numpy()
        if layer == len(tensors.biases_O):  # the means alone: the deterministic policy needs no standard deviations
            width = tensors.mask_KA.shape[1]
            weight, bias = weight[:, :width], bias[:width]
        product = graph.add("MatMul", graph.add("Relu", x), graph.constant(f"weight{layer}", weight))
        x = graph.add("Add", product, graph.constant(f"bias{layer}", bias))
    mask = graph.add("Gather", graph.constant("mask", tensors.mask_KA.numpy()), "task")
    graph.nodes.append(helper.make_node("Mul", [graph.add("Tanh", x), mask], ["action"]))

    observations, actions = tensors.mean_O.shape[0], tensors.mask_KA.shape[1]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [
                helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["N", observations]),
                helper.make_tensor_value_info("task", TensorProto.INT64, ["N"]),
            ],
            [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", actions])],
            graph.constants,
        ),
        producer_name="mtrl-surgery",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    save(model, str(path))


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str) -> str:
        from onnx import helper

        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output]))
        return output

    def constant(self, name: str, value: np.ndarray | np.floating[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name
