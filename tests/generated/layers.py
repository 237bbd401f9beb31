"""Layers and per-channel operators, each in the variants that real files have."""

from __future__ import annotations

import numpy as np

from generated.binary import clip, statistics, weight
from generated.builder import Builder, Map


def conv_binary(b: Builder, x: Map, count: int, k: int = 3, stride: int = 1, groups: int = 1, pad: bool = True) -> Map:
    """A binary convolution of a binarised map, its weights in any spelling, sometimes with a bias."""
    kernel = (k,) * b.axes
    weights = weight(b, count, x.channels // groups, kernel)
    return convolve(b, x, weights, count, k, stride, groups, pad=pad, bias=b.chance(0.15))


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
    """A convolution with the given weights, padded by half a kernel."""
    half = k // 2 if pad else 0
    space = tuple((size + 2 * half - k) // stride + 1 for size in x.space)
    attributes = {"pads": [half] * 2 * b.axes, "strides": [stride] * b.axes, "group": groups}
    if b.chance(0.5):
        attributes |= {"kernel_shape": [k] * b.axes, "dilations": [1] * b.axes}
    inputs = [x.name, weights, *([b.store(b.normal(count), "bias")] if bias else [])]
    return Map(b.layer("Conv", inputs, **attributes), count, space)


def norm(b: Builder, x: Map) -> Map:
    """An inference BatchNormalization, as a node, or as the Mul and Add that some exporters leave of it."""
    if b.chance(0.15):
        return scale(b, shift(b, x, "sub"))
    epsilon = b.pick([1e-5, 1e-3, 1e-1])
    return Map(b.add("BatchNormalization", [x.name, *statistics(b, x.channels)], epsilon=epsilon), x.channels, x.space)


def scale(b: Builder, x: Map) -> Map:
    """A factor per channel, of both signs."""
    operands = [x.name, b.per_channel(b.away(x.channels))]
    return Map(b.add("Mul", operands if b.chance(0.7) else operands[::-1]), x.channels, x.space)


def shift(b: Builder, x: Map, kind: str = "") -> Map:
    """A learnable bias per channel: plain, through Expand, or subtracted."""
    kind = kind or b.pick(("add", "expand", "sub"))
    values = b.normal(x.channels)
    if kind != "expand":
        return Map(b.add(kind.capitalize(), [x.name, b.per_channel(values)]), x.channels, x.space)
    bias = b.store(values.reshape(1, -1, *[1] * b.axes), "learnable")
    if b.batch is None:
        target = b.add("Concat", [b.size(x.name, 0), b.ints(x.channels, *x.space)], axis=0)
    else:
        target = b.add("Shape", [x.name])
    return Map(b.add("Add", [x.name, b.add("Expand", [bias, target])]), x.channels, x.space)


def activate(b: Builder, x: Map) -> Map:
    """What stands between two blocks: PRelu in its spellings, Clip, another activation, or nothing."""
    kind = b.pick(("prelu", "prelu", "prelu one", "biased", "clip", "spelled", "smooth", "none"))
    if kind == "prelu":
        shape = [x.channels, *[1] * b.axes]
        slope = b.store(b.away(*(shape if b.chance(0.5) else [1, *shape])), "slope")
        made = b.add("PRelu", [x.name, slope])
    elif kind == "prelu one":
        made = b.add("PRelu", [x.name, b.store(b.away(1), "slope")])
    elif kind == "biased":
        return shift(b, activate_with_slope(b, shift(b, x)))
    elif kind == "clip":
        made = clip(b, x.name)
    elif kind == "spelled":
        return spelled_prelu(b, x)
    elif kind == "smooth":
        op = b.pick(("Tanh", "HardSigmoid", "LeakyRelu", "Sigmoid", "Abs", "Softplus", "Elu"))
        made = b.add(op, [x.name])
    else:
        return x
    return Map(made, x.channels, x.space)


def activate_with_slope(b: Builder, x: Map) -> Map:
    """A PRelu with a slope per channel."""
    slope = b.store(b.away(x.channels, *[1] * b.axes), "slope")
    return Map(b.add("PRelu", [x.name, slope]), x.channels, x.space)


def spelled_prelu(b: Builder, x: Map) -> Map:
    """PRelu as Keras exports it: `Relu(x) + (-a) * Relu(-x)`."""
    negative = b.add("Relu", [b.add("Neg", [x.name])])
    scaled = b.add("Mul", [b.per_channel(b.away(x.channels)), negative])
    return Map(b.add("Add", [b.add("Relu", [x.name]), scaled]), x.channels, x.space)


def pool(b: Builder, x: Map, op: str, k: int = 2, stride: int = 2) -> Map:
    """A pooling without padding."""
    space = tuple((size - k) // stride + 1 for size in x.space)
    made = b.add(op, [x.name], kernel_shape=[k] * b.axes, strides=[stride] * b.axes)
    return Map(made, x.channels, space)


def subsample(b: Builder, x: Map) -> Map:
    """Every second pixel, by a Slice with step 2."""
    axes = list(range(2, 2 + b.axes))
    bounds = ([0] * b.axes, [2**31 - 1] * b.axes, axes, [2] * b.axes)
    made = b.add("Slice", [x.name, *(b.ints(*values) for values in bounds)])
    return Map(made, x.channels, tuple((size + 1) // 2 for size in x.space))


def add(b: Builder, x: Map, y: Map) -> Map:
    """The sum of two maps of one shape."""
    return Map(b.add("Add", [x.name, y.name]), x.channels, x.space)


def concat(b: Builder, parts: list[Map]) -> Map:
    """Maps side by side."""
    made = b.add("Concat", [part.name for part in parts], axis=1)
    return Map(made, sum(part.channels for part in parts), parts[0].space)
