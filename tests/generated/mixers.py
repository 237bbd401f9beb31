"""Operators between blocks that mix channels, depend on them, or that nothing has a rule for; and narrow operands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from generated.binary import SPELLINGS, binarise, clip, spelled, weight
from generated.builder import Builder, Map
from generated.layers import add, concat, conv_binary, conv_real, convolve, norm, pool, shift

Mixer = Callable[[Builder, Map], Map]


def softmax(b: Builder, x: Map) -> Map:
    """Softmax over the channels."""
    return Map(b.add("Softmax", [x.name], axis=1), x.channels, x.space)


def local_response(b: Builder, x: Map) -> Map:
    """AlexNet's normalisation over neighbouring channels."""
    if b.axes != 2:
        return softmax(b, x)
    return Map(b.add("LRN", [x.name], size=3, alpha=0.5), x.channels, x.space)


def gather(b: Builder, x: Map) -> Map:
    """Channels in another order, by their numbers."""
    order = b.store(b.random.permutation(x.channels).astype(np.int64), "order")
    return Map(b.add("Gather", [x.name, order], axis=1), x.channels, x.space)


def depth_to_space(b: Builder, x: Map) -> Map:
    """Blocks of channels spread over space, and back."""
    if b.axes != 2 or x.channels % 4:
        return gather(b, x)
    spread = b.add("DepthToSpace", [x.name], blocksize=2)
    return Map(b.add("SpaceToDepth", [spread], blocksize=2), x.channels, x.space)


def transposed_convolution(b: Builder, x: Map) -> Map:
    """ConvTranspose of stride 1, which keeps the size."""
    weights = b.store(b.normal(x.channels, x.channels, *[3] * b.axes) / np.float32(np.sqrt(3 * x.channels)), "up")
    made = b.add("ConvTranspose", [x.name, weights], pads=[1] * 2 * b.axes, kernel_shape=[3] * b.axes)
    return Map(made, x.channels, x.space)


def instance_norm(b: Builder, x: Map) -> Map:
    """Normalisation of each channel by its own statistics."""
    parameters = [b.store(b.away(x.channels), "norm"), b.store(b.normal(x.channels), "norm")]
    return Map(b.add("InstanceNormalization", [x.name, *parameters], epsilon=1e-2), x.channels, x.space)


def spatial_attention(b: Builder, x: Map) -> Map:
    """A gate per pixel from the mean over the channels."""
    gate = b.add("Sigmoid", [b.reduce(b.pick(("ReduceMean", "ReduceMax")), x.name, [1])])
    return Map(b.add("Mul", [x.name, gate]), x.channels, x.space)


def context(b: Builder, x: Map) -> Map:
    """Each channel and its mean over space."""
    mean = b.reduce("ReduceMean", x.name, list(range(2, 2 + b.axes)))
    return Map(b.add("Add", [x.name, mean]), x.channels, x.space)


def channels_last(b: Builder, x: Map) -> Map:
    """A bias and an activation with the channels on the last axis, between two Transposes."""
    last = [0, *range(2, 2 + b.axes), 1]
    y = b.add("Transpose", [x.name], perm=last)
    y = b.add("Add", [y, b.store(b.normal(x.channels), "last")])
    y = spelled(b, y, b.pick(SPELLINGS)) if b.chance(0.4) else b.add("Tanh", [y])
    return Map(b.add("Transpose", [y], perm=[0, 1 + b.axes, *range(1, 1 + b.axes)]), x.channels, x.space)


def zero_one(b: Builder, x: Map) -> Map:
    """Activations of 0 and 1 into weights of +1 and -1: no binary layer."""
    signs = Map(b.add("Sign", [b.add("Relu", [x.name])]), x.channels, x.space)
    weights = weight(b, x.channels, x.channels, (3,) * b.axes, "baked")
    return norm(b, convolve(b, signs, weights, x.channels, 3))


def ternary(b: Builder, x: Map) -> Map:
    """Weights of -1, 0 and 1 on a binarised map."""
    values = b.random.integers(-1, 2, (x.channels, x.channels, *(3,) * b.axes)).astype(np.float32)
    return norm(b, convolve(b, binarise(b, x), b.store(values, "ternary"), x.channels, 3))


def two_bits(b: Builder, x: Map) -> Map:
    """DoReFa's activations of two bits into a real-valued layer."""
    levels = b.scalar(3.0)
    y = b.add("Round", [b.add("Mul", [clip(b, x.name, 0.0, 1.0), levels])])
    return conv_real(b, Map(b.add("Div", [y, levels]), x.channels, x.space), x.channels, 3)


def between(b: Builder, x: Map) -> Map:
    """Pooling or Concat between a binarisation and its layer."""
    signs = binarise(b, x)
    kind = b.pick(("MaxPool", "AveragePool", "Concat"))
    if kind == "Concat":
        signs = concat(b, [signs, binarise(b, shift(b, x))])
        return norm(b, conv_binary(b, signs, x.channels, 1))
    return norm(b, conv_binary(b, pool(b, signs, kind, 2, 1), x.channels, 1))


def meet_input(b: Builder, x: Map) -> Map:
    """A gain for each image, or for each channel of it, that is an input of the graph: narrow meets wide."""
    channels = b.pick((1, x.channels))
    gain = b.input(f"gain_{len(b.inputs)}", channels, (1,) * b.axes)
    made = b.add("Mul", [x.name, gain.name] if b.chance(0.5) else [gain.name, x.name])
    return Map(made, x.channels, x.space)


def join_input(b: Builder, x: Map) -> Map:
    """A second image beside the map: narrow beside wide in a Concat."""
    image = b.input(f"image_{len(b.inputs)}", 2, x.space)
    return concat(b, [x, image] if b.chance(0.5) else [image, x])


def every_second(b: Builder, x: Map) -> Map:
    """The even channels beside the odd ones, by Slices with a step."""
    if x.channels % 2:
        return gather(b, x)
    end = b.pick((x.channels, 2**31 - 1))
    parts = [b.slice(x.name, start, end, step=2) for start in (0, 1)]
    return concat(b, [Map(part, x.channels // 2, x.space) for part in parts])


def backwards(b: Builder, x: Map) -> Map:
    """The channels in reverse order, by a Slice with step -1, added to the map."""
    turned = b.slice(x.name, -1, -(2**31), step=-1)
    return add(b, x, Map(turned, x.channels, x.space))


def wide_output(b: Builder, x: Map) -> Map:
    """An inner map that is a graph output as well."""
    kind = b.pick(("Tanh", "Relu", "layer", "norm"))
    if kind == "layer":
        x = conv_binary(b, binarise(b, x), x.channels, 1)
    elif kind == "norm":
        x = norm(b, conv_real(b, x, x.channels, 1))
    else:
        x = Map(b.add(kind, [x.name]), x.channels, x.space)
    b.output(x)
    return x


def sign_output(b: Builder, x: Map) -> Map:
    """A binarised map that is a graph output as well as a layer's input."""
    signs = binarise(b, x)
    b.output(signs)
    return norm(b, conv_binary(b, signs, x.channels, 1))


MIXERS: tuple[Mixer, ...] = (
    softmax,
    local_response,
    gather,
    depth_to_space,
    transposed_convolution,
    instance_norm,
    spatial_attention,
    context,
    channels_last,
    zero_one,
    ternary,
    two_bits,
    between,
    meet_input,
    join_input,
    every_second,
    backwards,
    wide_output,
    sign_output,
)
