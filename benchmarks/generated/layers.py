"""Layers and per-channel operators, each in the variants that real files have."""

from __future__ import annotations

import numpy as np

from benchmarks.generated.binary import statistics, weight
from benchmarks.generated.builder import Builder, Map, per_channel
from benchmarks.generated.spelling import clip, shape_of, slices

_SMOOTH = ("Tanh", "HardSigmoid", "LeakyRelu", "Sigmoid", "Abs", "Softplus", "Elu")


def conv_binary(b: Builder, x: Map, count: int, k: int = 3, stride: int = 1, groups: int = 1, pad: bool = True) -> Map:
    """A binary convolution of a binarised map, its weights in any spelling, sometimes with a bias."""
    weights = weight(b, count, x.channels // groups, (k,) * b.axes)
    return convolve(b, x, weights, count, k, stride, groups, pad=pad, bias=b.chance(0.2))


def conv_real(b: Builder, x: Map, count: int, k: int = 1, stride: int = 1, groups: int = 1) -> Map:
    """A real-valued convolution."""
    inner = x.channels // groups
    values = b.normal(count, inner, *(k,) * b.axes) / np.float32(np.sqrt(inner * k**b.axes))
    return convolve(b, x, b.store(values, "real"), count, k, stride, groups, bias=b.chance(0.5))


def convolve(
    b: Builder,
    x: Map,
    weights: str,
    count: int,
    k: int,
    stride: int = 1,
    groups: int = 1,
    *,
    pad: bool = True,
    bias: bool = False,
) -> Map:
    """A convolution with the given weights, padded to keep the size unless `pad` is false."""
    b.constructs.add(f"convolution: {'with' if bias else 'without'} bias")
    but = {"with bias", "without bias", *(() if k == 1 or not pad else ("VALID",))}
    if not pad or k == 1:
        but |= {"asymmetric pads", "dilated", *(() if k == 1 else ("SAME_UPPER", "SAME_LOWER"))}
    kind = b.variant("convolution", *but)
    half = k // 2 if pad else 0
    space = tuple((size + 2 * half - k) // stride + 1 for size in x.space)
    attributes: dict[str, object] = {"strides": [stride] * b.axes}
    if groups > 1 or b.chance(0.5):
        attributes["group"] = groups
    if kind in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        attributes["auto_pad"] = kind
    elif kind == "asymmetric pads":
        attributes["pads"] = b.pick(([2] * b.axes + [0] * b.axes, [0] * b.axes + [2] * b.axes))
    elif kind == "dilated":
        attributes |= {"pads": [2 * half] * 2 * b.axes, "dilations": [2] * b.axes}
    else:
        attributes["pads"] = [half] * 2 * b.axes
    if kind != "no kernel_shape":
        attributes["kernel_shape"] = [k] * b.axes
    inputs = [x.name, weights, *([b.store(b.normal(count), "bias")] if bias else [])]
    return Map(b.layer("Conv", inputs, **attributes), count, space)


def norm(b: Builder, x: Map) -> Map:
    """An inference BatchNormalization, as a node, or as the arithmetic that some exporters leave of it."""
    kind = "BatchNormalization" if b.chance(0.6) else b.variant("norm")
    b.constructs.add(f"norm: {kind}")
    if kind == "BatchNormalization":
        epsilon = b.pick([1e-5, 1e-3, 1e-1])
        inputs = [x.name, *statistics(b, x.channels)]
        return Map(b.add("BatchNormalization", inputs, epsilon=epsilon), x.channels, x.space)
    if kind == "Sub, Mul":
        return scale(b, shift(b, x, "Sub"))
    if kind == "Mul, Add":
        return shift(b, scale(b, x), "Add")
    divided = b.add("Div", [x.name, per_channel(b, b.away(x.channels))])
    return shift(b, Map(divided, x.channels, x.space), "Add")


def scale(b: Builder, x: Map) -> Map:
    """A factor per channel, of both signs."""
    operands = [x.name, per_channel(b, b.away(x.channels))]
    if b.chance(0.3):
        b.constructs.add("operand: on the left")
        operands.reverse()
    return Map(b.add("Mul", operands), x.channels, x.space)


def shift(b: Builder, x: Map, kind: str = "") -> Map:
    """A learnable bias per channel: plain, through Expand, or subtracted."""
    if kind:
        b.constructs.add(f"bias: {kind}")
    else:
        kind = b.variant("bias")
    values = b.normal(x.channels)
    if kind != "Expand":
        return Map(b.add(kind, [x.name, per_channel(b, values)]), x.channels, x.space)
    bias = b.store(values.reshape(1, -1, *[1] * b.axes), "learnable")
    target = shape_of(b, x, x.channels) if b.chance(0.5) else b.add("Shape", [x.name])
    return Map(b.add("Add", [x.name, b.add("Expand", [bias, target])]), x.channels, x.space)


def activate(b: Builder, x: Map) -> Map:
    """What stands between two blocks: PRelu in its spellings, Clip, another activation, or nothing."""
    kind = b.variant("activation")
    if kind == "none":
        return x
    if kind == "PRelu between biases":
        return shift(b, _sloped(b, shift(b, x), x.channels, *[1] * b.axes))
    if kind == "PRelu as two Relu":
        return _two_relus(b, x)
    if kind.startswith("PRelu"):
        space = [1] * b.axes
        shape = {"PRelu, one slope": [1], "PRelu [C, 1, 1]": [x.channels, *space]}
        return _sloped(b, x, *shape.get(kind, [1, x.channels, *space]))
    made = clip(b, x.name) if kind == "Clip" else b.add(b.pick(_SMOOTH), [x.name])
    return Map(made, x.channels, x.space)


def _sloped(b: Builder, x: Map, *shape: int) -> Map:
    return Map(b.add("PRelu", [x.name, b.store(b.away(*shape), "slope")]), x.channels, x.space)


def _two_relus(b: Builder, x: Map) -> Map:
    """PRelu as Keras exports it: `Relu(x) + (-a) * Relu(-x)`."""
    negative = b.add("Relu", [b.add("Neg", [x.name])])
    scaled = b.add("Mul", [per_channel(b, b.away(x.channels)), negative])
    return Map(b.add("Add", [b.add("Relu", [x.name]), scaled]), x.channels, x.space)


def pool(b: Builder, x: Map, op: str, k: int = 2, stride: int = 2) -> Map:
    """A pooling without padding."""
    b.need(min(x.space) >= k)
    space = tuple((size - k) // stride + 1 for size in x.space)
    made = b.add(op, [x.name], kernel_shape=[k] * b.axes, strides=[stride] * b.axes)
    return Map(made, x.channels, space)


def subsample(b: Builder, x: Map) -> Map:
    """Every second pixel, by a Slice with step 2."""
    axes = list(range(2, 2 + b.axes))
    made = slices(b, x.name, [0] * b.axes, [2**31 - 1] * b.axes, axes, [2] * b.axes)
    return Map(made, x.channels, tuple((size + 1) // 2 for size in x.space))


def add(b: Builder, x: Map, y: Map) -> Map:
    """The sum of two maps of one shape."""
    b.need(x.space == y.space)
    return Map(b.add("Add", [x.name, y.name]), x.channels, x.space)


def concat(b: Builder, parts: list[Map]) -> Map:
    """Maps side by side."""
    made = b.add("Concat", [part.name for part in parts], axis=1)
    return Map(made, sum(part.channels for part in parts), parts[0].space)
