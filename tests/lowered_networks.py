"""Networks with all that a lowering changes, and their lowered forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from everything import everything
from onnx import ModelProto, NodeProto, helper, numpy_helper
from small_networks import network
from spelled import spelled

from reptran_compiler.compiler import compile_model


def tiny() -> ModelProto:
    """Blocks of ReActNet's kind, in maps that onnxruntime holds in blocks."""
    return onnx.load("models/files/reactnet-tiny.onnx")


def steep() -> ModelProto:
    """An activation whose slopes are on both sides of 1, one that is steeper than 1 throughout, and a map of 8
    channels, which no block holds; the layer's input is +1 at 0."""
    slopes = np.linspace(0.25, 2.0, 8).reshape(8, 1, 1)
    between = [
        helper.make_node("PRelu", ["a", "slopes"], ["b"], name="bent"),
        helper.make_node("PRelu", ["b", "steeper"], ["c"], name="steep"),
        helper.make_node("Add", ["c", "shift"], ["d"], name="shifted"),
        helper.make_node("GreaterOrEqual", ["d", "zero"], ["m"], name="mask"),
        helper.make_node("Where", ["m", "one", "minus"], ["s"], name="sign"),
    ]
    return network(
        *between,
        opset=18,
        slopes=slopes,
        steeper=slopes + 1,
        shift=np.linspace(-1, 1, 8).reshape(1, 8, 1, 1),
        zero=0.0,
        one=1.0,
        minus=-1.0,
    )


def channels_last(value: float = 1.0) -> ModelProto:
    """A layer as Larq has it: its binarisation between Transposes, padded there, with a Relu behind the layer."""
    draw = np.random.default_rng(1)
    pads = np.array([0, 1, 2, 0, 0, 1, 0, 0])
    between = [
        helper.make_node("Transpose", ["a"], ["last"], name="there", perm=[0, 2, 3, 1]),
        helper.make_node("Sign", ["last"], ["inner"], name="inner"),
        helper.make_node("Add", ["inner", "tenth"], ["more"], name="more"),
        helper.make_node("Sign", ["more"], ["signs"], name="outer"),
        helper.make_node("Pad", ["signs", "pads", "value"], ["padded"], name="padded"),
        helper.make_node("Transpose", ["padded"], ["first"], name="back", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "inner.w"], ["c"], name="inner.layer"),
        helper.make_node("Relu", ["c"], ["r"], name="bent"),
        helper.make_node("Sub", ["r", "three"], ["d"], name="shifted"),
        helper.make_node("Clip", ["d", "low", "high"], ["b"], name="bounded"),
        helper.make_node("Sign", ["b"], ["s"], name="sign"),
    ]
    model = network(
        *between,
        filters=16,
        w=np.sign(draw.normal(size=(16, 16, 3, 3))),
        tenth=0.1,
        value=value,
        three=np.full((1, 16, 1, 1), 3.0),
        low=-2.0,
        high=2.0,
        **{"inner.w": np.sign(draw.normal(size=(16, 8, 3, 2)))},
    )
    model.graph.initializer.append(numpy_helper.from_array(pads, "pads"))
    return model


def straight() -> ModelProto:
    """Layers without a shortcut, as VGG has them: copies of the stem are binarised, scales stand around a pooling."""
    draw = np.random.default_rng(2)
    behind = [
        helper.make_node("Mul", ["y", "scale"], ["scaled"], name="scaled"),
        helper.make_node("MaxPool", ["scaled"], ["pooled"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["pooled", "gamma", "beta", "mean", "var"], ["n"], name="norm"),
        helper.make_node("Clip", ["n", "low", "high"], ["b"], name="bounded"),
        helper.make_node("Sign", ["b"], ["s2"], name="sign2"),
        helper.make_node("Conv", ["s2", "w2"], ["t"], name="layer2", pads=[1] * 4),
    ]
    return network(
        behind=behind,
        filters=32,
        scale=draw.uniform(0.1, 2.0, size=(1, 32, 1, 1)),
        gamma=draw.uniform(0.5, 2.0, size=32) * np.where(np.arange(32) % 3, 1, -1),
        beta=draw.normal(size=32),
        mean=draw.normal(size=32),
        var=draw.uniform(0.5, 2.0, size=32),
        low=-1.0,
        high=1.0,
        w2=np.sign(draw.normal(size=(32, 32, 3, 3))),
        **{"fc.w": draw.normal(size=(5, 32))},
    )


NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "reactnet-tiny": tiny,
    "steep": steep,
    "everything": everything,
    "channels last": channels_last,
    "straight": straight,
    "opset 9": lambda: spelled(9),
    "opset 22": lambda: spelled(22),
}


def kinds(model: ModelProto) -> list[str]:
    """The operator types of a model."""
    return [node.op_type for node in model.graph.node]


def asked(way: str) -> dict[str, str]:
    """The options of a way to lower, which may name the processor, as "int8 for avx2" does."""
    optimize, _, cpu = way.partition(" for ")
    return {"optimize": optimize, "cpu": cpu or "vnni"}


def lowered(
    source: ModelProto, way: str = "int8", weights: str = "latent", beta: int = 2
) -> tuple[ModelProto, ModelProto]:
    """A result, and what it is lowered to; `way` is as `asked` has it."""
    made = compile_model(source, beta, **asked(way), weights=weights)
    assert made.verified
    assert made.transformation is not None
    return made.transformation.result, made.model


def stored(model: ModelProto, name: str) -> onnx.TensorProto:
    """An initializer."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def first(model: ModelProto, op_type: str) -> NodeProto:
    """The first operator of a type."""
    return next(node for node in model.graph.node if node.op_type == op_type)
