"""The small binary network that careless rules are let loose on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

#: The layers' filters, and the images' height and width.
_FILTERS, _IMAGE = 8, 6


def small_network() -> ModelProto:
    """A stem, two binary layers with what usually stands behind them, an operator of its own domain, a classifier."""
    draw = np.random.default_rng(0)
    stored: dict[str, NDArray[Any]] = {
        "stem.w": draw.normal(size=(_FILTERS, 3, 3, 3)),
        "fc.w": draw.normal(size=(5, _FILTERS)),
        "fc.b": draw.normal(size=5),
        "k": draw.uniform(0.5, 2, (1, _FILTERS, 1, 1)),
        "low": np.array(-150.0),
        "high": np.array(150.0),
    }
    for layer in "12":
        stored[f"w{layer}"] = draw.choice([-1.0, 1.0], (_FILTERS, _FILTERS, 3, 3))
        for name, low, high in (("gamma", 0.5, 2), ("beta", -1, 1), ("mean", -1, 1), ("var", 1e-3, 2)):
            stored[f"{name}{layer}"] = draw.uniform(low, high, _FILTERS)
    nodes = [
        _node("Conv", "x stem.w", "stem", pads=[1, 1, 1, 1]),
        _node("Clip", "stem low high", "clip"),
        *_binary("clip", "1"),
        _node("Mul", "conv1 k", "mul1"),
        _node("BatchNormalization", "mul1 gamma1 beta1 mean1 var1", "bn1", epsilon=1e-3),
        _node("Relu", "bn1", "relu1"),
        _node("Swish", "relu1", "swish", domain="com.example"),
        *_binary("swish", "2"),
        _node("Mul", "conv2 k", "mul2"),
        _node("BatchNormalization", "mul2 gamma2 beta2 mean2 var2", "bn2", epsilon=1e-3),
        _node("Add", "bn2 swish", "add"),
        _node("Relu", "add", "relu2"),
        _node("GlobalAveragePool", "relu2", "pool"),
        _node("Flatten", "pool", "flat"),
        _node("Gemm", "flat fc.w fc.b", "y", transB=1),
    ]
    body = [_node("Sigmoid", "a", "s"), _node("Mul", "a s", "b")]
    swish = helper.make_function("com.example", "Swish", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        nodes,
        "careless",
        [helper.make_tensor_value_info("x", 1, ["N", 3, _IMAGE, _IMAGE])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[swish], ir_version=8)


def _binary(read: str, layer: str) -> list[NodeProto]:
    sign = _node("Sign", read, f"sign{layer}")
    return [sign, _node("Conv", f"sign{layer} w{layer}", f"conv{layer}", pads=[1, 1, 1, 1])]


def _node(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)
