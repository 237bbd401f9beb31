"""How networks begin and end."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from benchmarks.generated.binary import binarise, statistics, weight
from benchmarks.generated.builder import Builder, Map
from benchmarks.generated.layers import activate, conv_real, norm, pool, scale, shift
from benchmarks.generated.spelling import reduce, size

CLASSES = 5
_HIDDEN = 12


def stem(b: Builder, x: Map, count: int) -> Map:
    """A real-valued convolution of the image, with what exporters leave behind it."""
    kind = b.variant("stem")
    if kind == "normalised image":
        x = scale(b, shift(b, x, "Sub"))
    y = conv_real(b, x, count, b.pick((3, 1)))
    if kind in ("norm", "pooled", "normalised image"):
        y = norm(b, y)
    if kind == "bias":
        y = shift(b, y, "Add")
    if kind == "pooled" and min(y.space) >= 6:
        y = pool(b, y, "MaxPool")
    return activate(b, y) if kind == "active" else y


def head(b: Builder, x: Map) -> None:
    """A classifier and the output of its logits."""
    open_only = ("hidden", "interleaved", "interleaved, hidden")
    kind = b.variant("head", *(open_only if b.free else ()))
    if kind == "convolution":
        logits = _convolved(b, x)
    elif kind == "hidden":
        logits = _hidden(b, x)
    elif kind.startswith("interleaved"):
        logits = _interleaved(b, x, hidden=kind.endswith("hidden"))
    else:
        y = _averaged(b, x, reduced=kind == "pooled by ReduceMean")
        if kind == "pooled, norm":
            y = b.add("BatchNormalization", [y, *statistics(b, x.channels)])
        logits = _turned(b, y, x.channels) if kind == "of a turned matrix" else linear(b, y, x.channels, CLASSES)
    _finish(b, logits)


def linear(b: Builder, x: str, columns: int, count: int, *, binary: bool = False) -> str:
    """A linear layer: Gemm in its forms, or MatMul with or without an Add."""
    kind = b.variant("linear")
    if binary and kind == "Gemm, transB":
        weights = weight(b, count, columns, ())
        return b.layer("Gemm", [x, weights, *_bias(b, count)], transB=1)
    shape = (count, columns) if kind == "Gemm, transB" else (columns, count)
    values = b.away(*shape) / np.float32(math.sqrt(columns))
    weights = b.store(np.sign(values) if binary else values, "fc")
    if kind.startswith("MatMul"):
        made = b.layer("MatMul", [x, weights])
        return b.add("Add", [made, b.store(b.normal(count), "fc")]) if kind == "MatMul, Add" else made
    attributes = {"alpha": 0.5, "beta": 2.0} if kind == "Gemm, alpha and beta" else {}
    inputs = [x, weights, *_bias(b, count)]
    return b.layer("Gemm", inputs, transB=int(kind == "Gemm, transB"), **attributes)


def _bias(b: Builder, count: int) -> list[str]:
    """The bias of a Gemm; before opset 11 it has one in any case."""
    return [b.store(b.normal(count), "fc")] if b.opset < 11 or b.chance(0.7) else []


def flattened(b: Builder, x: Map) -> str:
    """The map as [N, C * space]: Flatten, or Reshape in its spellings."""
    kind = b.variant("flatten")
    if kind == "Flatten":
        return b.add("Flatten", [x.name])
    if kind == "Reshape, computed":
        return b.add("Reshape", [x.name, b.add("Concat", [size(b, x.name, 0), b.ints(-1)], axis=0)])
    target = (0, -1) if kind == "Reshape 0, -1" else (-1, x.channels * math.prod(x.space))
    return b.add("Reshape", [x.name, b.ints(*target)])


def _averaged(b: Builder, x: Map, *, reduced: bool = False) -> str:
    """The mean over space as [N, C]."""
    if reduced:
        return reduce(b, "ReduceMean", x.name, list(range(2, 2 + b.axes)), keep=False)
    return flattened(b, Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes))


def _turned(b: Builder, y: str, columns: int) -> str:
    """A classifier that reads its vectors as columns: Gemm with transA."""
    weights = b.store(b.away(columns, CLASSES) / np.float32(math.sqrt(columns)), "fc")
    bias = b.store(b.normal(CLASSES), "fc")
    return b.layer("Gemm", [b.add("Transpose", [y], perm=[1, 0]), weights, bias], transA=1)


def _convolved(b: Builder, x: Map) -> str:
    """A 1x1 convolution as the classifier, in front of or behind the pooling."""
    if b.chance(0.5):
        x = Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes)
        return flattened(b, conv_real(b, x, CLASSES))
    y = conv_real(b, x, CLASSES)
    return flattened(b, Map(b.add("GlobalAveragePool", [y.name]), CLASSES, (1,) * b.axes))


def _hidden(b: Builder, x: Map) -> str:
    """Flatten of CxHxW and hidden binary linear layers, as VGG and binary MLPs have."""
    x = _small(b, x)
    y, columns = flattened(b, x), x.channels * math.prod(x.space)
    for _ in range(b.pick((1, 2))):
        y = linear(b, binarise(b, Map(y, columns, ())).name, columns, _HIDDEN, binary=True)
        columns = _HIDDEN
        y = b.add("BatchNormalization", [y, *statistics(b, columns)])
    return linear(b, y, columns, CLASSES)


def _interleaved(b: Builder, x: Map, *, hidden: bool) -> str:
    """Flatten of (H, W, C), as Keras has it, into the classifier or into a hidden binary layer."""
    x = _small(b, x)
    y = b.add("Transpose", [x.name], perm=[0, *range(2, 2 + b.axes), 1])
    columns = x.channels * math.prod(x.space)
    y = flattened(b, Map(y, x.channels, x.space))
    if hidden:
        y = linear(b, binarise(b, Map(y, columns, ())).name, columns, _HIDDEN, binary=True)
        columns = _HIDDEN
    return linear(b, y, columns, CLASSES)


def _small(b: Builder, x: Map) -> Map:
    while math.prod(x.space) > 16 and min(x.space) >= 2:
        x = pool(b, x, b.pick(("MaxPool", "AveragePool")))
    return x


def _finish(b: Builder, logits: str) -> None:
    """Make the logits (or their Softmax) a graph output."""
    kind = "logits" if b.chance(0.6) else b.variant("output")
    b.constructs.add(f"output: {kind}")
    name = b.add("Softmax", [logits], axis=1) if kind == "Softmax" else logits
    if kind == "ArgMax beside":
        b.vector(b.add("ArgMax", [name], axis=1, keepdims=0), None, TensorProto.INT64)
    b.vector(name, CLASSES)
