"""Operators that mix channels or depend on them, linear layers over sequences, and maps that are not wide."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from onnx import TensorProto

from benchmarks.generated.binary import binarise, statistics
from benchmarks.generated.blocks import WIDEST, Block
from benchmarks.generated.builder import Builder, Map
from benchmarks.generated.layers import add, concat, conv_binary, conv_real, norm
from benchmarks.generated.spelling import clip, reduce, shape_of


def _same(x: Map, name: str) -> Map:
    return Map(name, x.channels, x.space)


def normalised(b: Builder, x: Map, op: str, axis: int) -> Map:
    """Softmax and its kin over an axis."""
    if axis > 1 and b.opset < 13:
        # Before opset 13 all axes from this one on are one.
        b.need(b.axes >= 2)
    return _same(x, b.add(op, [clip(b, x.name, -4.0, 4.0)], axis=axis))


def local_response(b: Builder, x: Map) -> Map:
    """AlexNet's normalisation over neighbouring channels."""
    b.need(b.axes == 2)
    return _same(x, b.add("LRN", [clip(b, x.name, -4.0, 4.0)], size=3, alpha=0.5))


def gather(b: Builder, x: Map) -> Map:
    """Channels in another order, by their numbers."""
    order = b.store(b.random.permutation(x.channels).astype(np.int64), "order")
    return _same(x, b.add("Gather", [x.name, order], axis=1))


def depth_to_space(b: Builder, x: Map) -> Map:
    """Blocks of channels spread over space, and back."""
    b.need(b.axes == 2, x.channels % 4 == 0)
    spread = b.add("DepthToSpace", [x.name], blocksize=2)
    return _same(x, b.add("SpaceToDepth", [spread], blocksize=2))


def transposed_convolution(b: Builder, x: Map) -> Map:
    """ConvTranspose of stride 1, which keeps the size."""
    weights = b.store(b.normal(x.channels, x.channels, *[3] * b.axes) / np.float32(np.sqrt(3 * x.channels)), "up")
    attributes = {"pads": [1] * 2 * b.axes, "kernel_shape": [3] * b.axes}
    return _same(x, b.add("ConvTranspose", [x.name, weights], **attributes))


def layer_norm(b: Builder, x: Map) -> Map:
    """LayerNormalization over everything but the batch."""
    b.need(b.opset >= 17, not b.free)
    shape = (x.channels, *x.space)
    inputs = [x.name, b.store(b.away(*shape), "norm"), b.store(b.normal(*shape), "norm")]
    return _same(x, b.add("LayerNormalization", inputs, axis=1))


def group_norm(b: Builder, x: Map) -> Map:
    """GroupNormalization with two groups."""
    b.need(b.opset >= 21, x.channels % 2 == 0)
    inputs = [x.name, b.store(b.away(x.channels), "norm"), b.store(b.normal(x.channels), "norm")]
    return _same(x, b.add("GroupNormalization", inputs, num_groups=2))


def instance_norm(b: Builder, x: Map) -> Map:
    """Normalisation of each channel by its own statistics."""
    inputs = [x.name, b.store(b.away(x.channels), "norm"), b.store(b.normal(x.channels), "norm")]
    return _same(x, b.add("InstanceNormalization", inputs, epsilon=1e-2))


def training_norm(b: Builder, x: Map) -> Map:
    """BatchNormalization that was exported in training mode."""
    b.need(b.opset >= 15)
    inputs = [x.name, *statistics(b, x.channels)]
    return _same(x, b.many("BatchNormalization", inputs, 3, training_mode=1, epsilon=1e-2)[0])


def summed_before(b: Builder, x: Map) -> Map:
    """Sums of each channel and all in front of it."""
    b.need(b.opset >= 11)
    return norm(b, _same(x, b.add("CumSum", [x.name, b.store(np.array(1, np.int64), "axis")])))


def sorted_channels(b: Builder, x: Map) -> Map:
    """The channels of each pixel in order of size."""
    b.need(b.opset >= 10)
    return _same(x, b.many("TopK", [x.name, b.ints(x.channels)], 2, axis=1)[0])


def attention(b: Builder, x: Map, op: str) -> Map:
    """A product of two maps."""
    b.need(b.axes == 2)
    if op == "Einsum":
        b.need(b.opset >= 12)
        return norm(b, _same(x, b.add("Einsum", [x.name, x.name], equation="nchw,ndhw->nchw")))
    turned = b.add("Transpose", [x.name], perm=[0, 1, 3, 2])
    square = b.add("MatMul", [b.add("Tanh", [x.name]), b.add("Tanh", [turned])])
    return _same(x, b.add("MatMul", [b.add("Softmax", [square], axis=3), x.name]))


def tokens(b: Builder, x: Map, binary: bool) -> Map:
    """A linear layer over the channels of a sequence of pixels."""
    y = b.add("Transpose", [b.add("Reshape", [x.name, b.ints(0, x.channels, -1)])], perm=[0, 2, 1])
    weights = b.away(x.channels, x.channels) / np.float32(np.sqrt(x.channels))
    if binary:
        y, weights = binarise(b, Map(y, x.channels, ())).name, np.sign(weights)
    y = b.layer("MatMul", [y, b.store(weights, "token")])
    y = b.add("Add", [y, b.store(b.normal(x.channels), "token")])
    back = b.add("Reshape", [b.add("Transpose", [y], perm=[0, 2, 1]), shape_of(b, x, x.channels)])
    return _same(x, back)


def over_space(b: Builder, x: Map) -> Map:
    """A product with stored weights along the last axis of space."""
    b.need(not b.free)
    weights = b.away(x.space[-1], x.space[-1]) / np.float32(np.sqrt(x.space[-1]))
    return _same(x, b.layer("MatMul", [x.name, b.store(weights, "space")]))


def spatial_attention(b: Builder, x: Map, op: str) -> Map:
    """A gate per pixel from a reduction over the channels."""
    gate = b.add("Sigmoid", [reduce(b, op, x.name, [1])])
    return _same(x, b.add("Mul", [x.name, gate]))


def two_bits(b: Builder, x: Map) -> Map:
    """DoReFa's activations of two bits into a real-valued layer."""
    b.need(b.opset >= 11)
    levels = b.scalar(3.0)
    y = b.add("Round", [b.add("Mul", [clip(b, x.name, 0.0, 1.0), levels])])
    return conv_real(b, _same(x, b.add("Div", [y, levels])), x.channels, 3)


def quantised(b: Builder, x: Map, each: bool) -> Map:
    """To 8 bits and back, with one scale or one for each channel."""
    b.need(b.opset >= (13 if each else 10))
    scale = b.positive(x.channels) if each else np.array(0.05, np.float32)
    zero = np.zeros(x.channels, np.uint8) if each else np.array(128, np.uint8)
    inputs = [b.store(scale, "scale"), b.store(zero, "zero")]
    axis = {"axis": 1} if each else {}
    codes = b.add("QuantizeLinear", [x.name, *inputs], **axis)
    return _same(x, b.add("DequantizeLinear", [codes, *inputs], **axis))


def half_precision(b: Builder, x: Map) -> Map:
    """A Cast to 16 bits and back."""
    return _same(x, b.add("Cast", [b.add("Cast", [x.name], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT))


def cast_like(b: Builder, x: Map) -> Map:
    """A CastLike to the type that the map has."""
    b.need(b.opset >= 15)
    return _same(x, b.add("CastLike", [b.add("Tanh", [x.name]), x.name]))


def dropout(b: Builder, x: Map) -> Map:
    """A Dropout in inference, with or without its mask."""
    return _same(x, b.many("Dropout", [x.name], b.pick((1, 2)))[0])


def meet_input(b: Builder, x: Map, each: bool) -> Map:
    """A gain for each image, or for each channel of it, that is an input of the graph: narrow meets wide."""
    gain = b.input(f"gain_{len(b.inputs)}", x.channels if each else 1, (1,) * b.axes)
    return _same(x, b.add("Mul", [x.name, gain.name] if b.chance(0.5) else [gain.name, x.name]))


def join_input(b: Builder, x: Map) -> Map:
    """A second image beside the map: narrow beside wide in a Concat."""
    b.need(not b.free, x.channels + 2 <= WIDEST)
    image = b.input(f"image_{len(b.inputs)}", 2, x.space)
    return concat(b, [x, image] if b.chance(0.5) else [image, x])


def wide_output(b: Builder, x: Map, kind: str) -> Map:
    """An inner map that is a graph output as well."""
    if kind == "layer":
        y = conv_binary(b, binarise(b, x), x.channels, 1)
    elif kind == "norm":
        y = norm(b, conv_real(b, x, x.channels, 1))
    elif kind == "sign":
        y = binarise(b, x)
    else:
        y = _same(x, b.add("Tanh", [x.name]))
    b.output(y)
    return norm(b, conv_binary(b, y, x.channels, 1)) if kind == "sign" else add(b, x, y)


MIXERS: Mapping[str, Block] = {
    **{f"{op} over channels": partial(normalised, op=op, axis=1) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{f"{op} over space": partial(normalised, op=op, axis=2) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    "LRN": local_response,
    "Gather of channels": gather,
    "DepthToSpace": depth_to_space,
    "ConvTranspose": transposed_convolution,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "BatchNormalization in training mode": training_norm,
    "CumSum over channels": summed_before,
    "TopK of channels": sorted_channels,
    "Einsum of maps": partial(attention, op="Einsum"),
    "MatMul of maps": partial(attention, op="MatMul"),
    "linear layer on tokens, real": partial(tokens, binary=False),
    "linear layer on tokens, binary": partial(tokens, binary=True),
    "linear layer over space": over_space,
    "gate by the mean of channels": partial(spatial_attention, op="ReduceMean"),
    "gate by the largest channel": partial(spatial_attention, op="ReduceMax"),
    "2-bit activations": two_bits,
    "quantised": partial(quantised, each=False),
    "quantised per channel": partial(quantised, each=True),
    "float16 and back": half_precision,
    "CastLike": cast_like,
    "Dropout": dropout,
    "gain for each image": partial(meet_input, each=False),
    "gain for each channel": partial(meet_input, each=True),
    "image beside a map": join_input,
    **{f"inner output: {kind}": partial(wide_output, kind=kind) for kind in ("map", "layer", "norm", "sign")},
}
