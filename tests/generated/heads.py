"""How networks begin and end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from generated.binary import binarise, weight
from generated.builder import Builder, Map
from generated.layers import activate, conv_real, norm, pool, scale, shift

Head = Callable[[Builder, Map], str]
CLASSES = 5


def stem(b: Builder, x: Map, count: int) -> Map:
    """A real-valued convolution of the image, with what exporters leave behind it."""
    kind = b.pick(("norm", "bias", "bare", "pooled", "active", "normalised"))
    if kind == "normalised":
        x = scale(b, shift(b, x, "sub"))
    y = conv_real(b, x, count, b.pick((1, 3)))
    if kind in ("norm", "pooled", "normalised"):
        y = norm(b, y)
    if kind == "bias":
        y = shift(b, y, "add")
    if kind == "pooled" and min(y.space) >= 6:
        y = pool(b, y, "MaxPool")
    return activate(b, y) if kind == "active" else y


def linear(b: Builder, x: str, columns: int, count: int, *, binary: bool = False) -> str:
    """A linear layer: Gemm, Gemm with transB, or MatMul and Add."""
    kind = b.pick(("gemm", "gemm transposed", "matmul"))
    if binary and kind == "gemm transposed":
        return b.layer("Gemm", [x, weight(b, count, columns, ())], transB=1)
    shape = (count, columns) if kind == "gemm transposed" else (columns, count)
    values = b.away(*shape) / np.float32(np.sqrt(columns))
    if binary:
        values = np.sign(values)
    weights, bias = b.store(values, "fc"), b.store(b.normal(count), "fc")
    if kind == "matmul":
        made = b.layer("MatMul", [x, weights])
        return b.add("Add", [made, bias]) if b.chance(0.8) else made
    biased = [bias] if b.chance(0.8) else []
    return b.layer("Gemm", [x, weights, *biased], transB=int(kind == "gemm transposed"))


def flattened(b: Builder, x: Map) -> str:
    """The map as [N, C * space]: Flatten, or Reshape in its spellings."""
    kind = b.pick(("flatten", "reshape", "copied", "computed"))
    size = x.channels * int(np.prod(x.space))
    if kind == "flatten":
        return b.add("Flatten", [x.name])
    if kind == "computed":
        return b.add("Reshape", [x.name, b.add("Concat", [b.size(x.name, 0), b.ints(-1)], axis=0)])
    target = (0, -1) if kind == "copied" else (-1, size)
    return b.add("Reshape", [x.name, b.ints(*target)])


def averaged(b: Builder, x: Map) -> str:
    """The mean over space as [N, C]."""
    axes = list(range(2, 2 + b.axes))
    if b.chance(0.3):
        return b.reduce("ReduceMean", x.name, axes, keep=False)
    return flattened(b, Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes))


def pooled_head(b: Builder, x: Map) -> str:
    """Global pooling and a linear classifier, sometimes behind a BatchNormalization of the vector."""
    y = averaged(b, x)
    if b.chance(0.25):
        values = [b.away(x.channels), b.normal(x.channels), b.normal(x.channels), b.positive(x.channels)]
        y = b.add("BatchNormalization", [y, *(b.store(value, "bn") for value in values)])
    return linear(b, y, x.channels, CLASSES)


def convolution_head(b: Builder, x: Map) -> str:
    """A 1x1 convolution as the classifier, in front of or behind the pooling."""
    if b.chance(0.5):
        x = Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes)
        return flattened(b, conv_real(b, x, CLASSES))
    y = conv_real(b, x, CLASSES)
    return flattened(b, Map(b.add("GlobalAveragePool", [y.name]), CLASSES, (1,) * b.axes))


def hidden_head(b: Builder, x: Map) -> str:
    """Flatten of CxHxW and hidden binary linear layers, as VGG and binary MLPs have."""
    x = _small(b, x)
    y, columns = flattened(b, x), x.channels * int(np.prod(x.space))
    for _ in range(int(b.random.integers(1, 3))):
        signs = binarise(b, Map(y, columns, ()))
        y = linear(b, signs.name, columns, 12, binary=True)
        columns = 12
        values = [b.away(columns), b.normal(columns), b.normal(columns), b.positive(columns)]
        y = b.add("BatchNormalization", [y, *(b.store(value, "bn") for value in values)])
    return linear(b, y, columns, CLASSES)


def interleaved_head(b: Builder, x: Map) -> str:
    """Flatten of (H, W, C), as Keras has it, into the classifier or into a hidden binary layer."""
    x = _small(b, x)
    y = b.add("Transpose", [x.name], perm=[0, *range(2, 2 + b.axes), 1])
    columns = x.channels * int(np.prod(x.space))
    y = flattened(b, Map(y, x.channels, x.space))
    if b.chance(0.5):
        y = linear(b, binarise(b, Map(y, columns, ())).name, columns, 12, binary=True)
        columns = 12
    return linear(b, y, columns, CLASSES)


def _small(b: Builder, x: Map) -> Map:
    while int(np.prod(x.space)) > 16 and min(x.space) >= 2:
        x = pool(b, x, b.pick(("MaxPool", "AveragePool")))
    return x


def finish(b: Builder, logits: str) -> None:
    """Make the logits (or their Softmax) a graph output."""
    name = b.add("Softmax", [logits], axis=1) if b.chance(0.15) else logits
    batch: int | str = "N" if b.batch is None else b.batch
    if b.chance(0.1):
        best = b.add("ArgMax", [name], axis=1, keepdims=0)
        b.outputs.append(helper.make_tensor_value_info(best, TensorProto.INT64, [batch]))
    b.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, CLASSES]))


HEADS: tuple[Head, ...] = (pooled_head, pooled_head, convolution_head, hidden_head, interleaved_head)
