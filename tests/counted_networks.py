"""Networks in canonical form whose costs are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Canonical graphs, node by node. Large weights have a shape and no data."""

    def __init__(self, shape: Sequence[int | str], opset: int = 17) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shape = shape
        self.opset = opset

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node; its output is called as the node is."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def empty(self, *dims: int) -> str:
        """A float initializer without data."""
        name = f"p{len(self.constants)}"
        self.constants[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        return name

    def const(self, values: object, dtype: type = np.float32) -> str:
        """An initializer with data."""
        name = f"p{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def signs(self, *dims: int) -> str:
        """Weights of +-1."""
        return self.const(np.where(np.arange(np.prod(dims)) % 3, 1, -1).reshape(dims))

    def norm(self, x: str, channels: int) -> str:
        """An inference BatchNormalization."""
        return self.op("BatchNormalization", x, *(self.empty(channels) for _ in range(4)))

    def bias(self, x: str, channels: int) -> str:
        """A per-channel Add."""
        return self.op("Add", x, self.empty(1, channels, 1, 1))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The model; its outputs have no shapes."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            list(self.constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


REACTNET = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
REACTNET += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]


def reactnet_a(beta: int, scales: bool = True) -> onnx.ModelProto:
    """ReActNet-A in canonical form, BatchNormalization kept; beta > 1: its RepTran form, `widen`."""
    b = Builder(["N", 3, 224, 224])

    def sign(x: str, channels: int) -> str:
        return b.op("Sign", b.bias(x, channels))

    def binary(x: str, c: int, kernel: int, stride: int) -> str:
        weight = b.empty(c // beta, c * beta, kernel, kernel)
        pads = [kernel // 2] * 4
        y = b.op(
            "Conv",
            x,
            weight,
            name=f"c{kernel}_{sum(n.op_type == 'Conv' for n in b.nodes)}",
            strides=[stride] * 2,
            pads=pads,
        )
        if beta > 1:
            y = b.op("Tile", y, b.const([1, beta * beta, 1, 1], np.int64))
        if scales:
            y = b.op("Mul", y, b.empty(1, c * beta, 1, 1))
        return b.norm(y, c * beta)

    def act(x: str, channels: int) -> str:
        return b.bias(b.op("PRelu", b.bias(x, channels), b.empty(channels, 1, 1)), channels)

    x = b.norm(b.op("Conv", "input", b.empty(32, 3, 3, 3), name="stem", strides=[2, 2], pads=[1] * 4), 32)
    if beta > 1:
        x = b.op("Tile", x, b.const([1, beta, 1, 1], np.int64))
    for ci, co, stride in REACTNET:
        shortcut = x if stride == 1 else b.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = act(b.op("Add", binary(sign(x, ci * beta), ci, 3, stride), shortcut), ci * beta)
        signs = sign(x, ci * beta)
        if ci == co:
            x = b.op("Add", binary(signs, ci, 1, 1), x)
        else:
            halves = [b.op("Add", binary(signs, ci, 1, 1), x) for _ in range(2)]
            x = b.op("Concat", *halves, axis=1)
        x = act(x, co * beta)
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.model(b.op("Gemm", x, b.empty(1000, 1024 * beta), b.empty(1000), name="fc", transB=1))


def small(beta: int = 1) -> tuple[Builder, str]:
    """A stem of 8 filters, its BatchNormalization and a Sign."""
    b = Builder(["N", 3, 8, 8])
    x = b.norm(b.op("Conv", "input", b.empty(8, 3, 3, 3), name="stem", pads=[1] * 4), 8)
    return b, b.op("Sign", x)


def classified(b: Builder, x: str, channels: int) -> onnx.ModelProto:
    """The builder's network, with a classifier of ten classes behind x."""
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.model(b.op("Gemm", x, b.empty(10, channels), b.empty(10), name="fc", transB=1))
