"""The blocks of published binary networks, and operators that stand between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from generated.binary import binarise, weight
from generated.builder import Builder, Map
from generated.layers import (
    activate,
    add,
    concat,
    conv_binary,
    conv_real,
    convolve,
    norm,
    pool,
    scale,
    shift,
    subsample,
)

Block = Callable[[Builder, Map], Map]
WIDEST = 20


def residual(b: Builder, x: Map) -> Map:
    """Bi-Real's block: Sign, convolution, BN and a shortcut, with the orders that other papers use."""
    halve = min(x.space) >= 4 and b.chance(0.3)
    count = x.channels * 2 if 2 * x.channels <= WIDEST and b.chance(0.3) else x.channels
    stride = 2 if halve else 1
    y = binarise(b, norm(b, x) if b.chance(0.3) else shift(b, x) if b.chance(0.3) else x)
    y = conv_binary(b, y, count, b.pick((1, 3)), stride)
    if b.chance(0.25):
        y = scale(b, y)
    if b.chance(0.85):
        y = norm(b, y)
    if b.chance(0.85):
        y = add(b, *((y, short) if b.chance(0.5) else (short, y))) if (short := shortcut(b, x, count, halve)) else y
    return activate(b, y)


def shortcut(b: Builder, x: Map, count: int, halve: bool) -> Map:
    """What a block adds to its output: the identity, or one of the ways to halve a map or double its channels."""
    if not halve and count == x.channels:
        return x
    if b.chance(0.3):
        return norm(b, conv_binary(b, binarise(b, x), count, 1, 2 if halve else 1))
    if halve and all(size % 2 == 0 for size in x.space) and b.chance(0.6):
        x = pool(b, x, "AveragePool")
    elif halve and b.chance(0.5):
        return norm(b, conv_real(b, x, count, 1, 2))
    elif halve:
        x = subsample(b, x)
    if count == x.channels:
        return x
    kind = b.pick(("conv", "pad", "twice"))
    if kind == "conv":
        return norm(b, conv_real(b, x, count))
    if kind == "pad":
        before = int(b.random.integers(0, count - x.channels + 1))
        zeros = [0] * b.axes
        pads = [0, before, *zeros, 0, count - x.channels - before, *zeros]
        inputs = [x.name, b.ints(*pads), *([b.store(np.float32(0.25), "fill")] if b.chance(0.3) else [])]
        return Map(b.add("Pad", inputs), count, x.space)
    return concat(b, [x, x])


def pooled(b: Builder, x: Map) -> Map:
    """XNOR-Net's order: BN, Sign, convolution, MaxPool in front of the next BN."""
    y = conv_binary(b, binarise(b, norm(b, x)), x.channels)
    return norm(b, pool(b, y, "MaxPool", 2, 2 if min(y.space) >= 4 else 1))


def doubled(b: Builder, x: Map) -> Map:
    """ReActNet's doubling: two 1x1 convolutions of one binarised map, each with its shortcut, and Concat."""
    if 2 * x.channels > WIDEST:
        return transition(b, x)
    signs = binarise(b, shift(b, x))
    halves = [add(b, norm(b, conv_binary(b, signs, x.channels, 1)), x) for _ in range(2)]
    return activate(b, concat(b, halves))


def dense(b: Builder, x: Map) -> Map:
    """BinaryDenseNet's growth: BN, Sign, convolution, Concat."""
    if x.channels + b.unit > WIDEST:
        return transition(b, x)
    y = conv_binary(b, binarise(b, norm(b, x)), b.unit)
    return concat(b, [x, y] if b.chance(0.7) else [y, x])


def melius(b: Builder, x: Map) -> Map:
    """MeliusNet's improvement: the last channels get the sum with a convolution, by Split or by Slices."""
    part = b.unit if b.unit < x.channels else x.channels // 2
    rest = x.channels - part
    y = norm(b, conv_binary(b, binarise(b, x), part))
    if b.chance(0.5):
        kept, last = b.split(x.name, [rest, part])
    elif b.chance(0.5):
        kept, last = b.slice(x.name, 0, -part), b.slice(x.name, -part, 2**31 - 1)
    else:
        kept, last = b.slice(x.name, 0, rest), b.slice(x.name, rest, x.channels)
    better = b.add("Add", [last, y.name])
    return Map(b.add("Concat", [kept, better], axis=1), x.channels, x.space)


def shuffled(b: Builder, x: Map) -> Map:
    """A grouped binary convolution behind a channel shuffle."""
    factors = [g for g in (2, 3, 4) if x.channels % g == 0 and x.channels > g]
    if not factors:
        return residual(b, x)
    x = shuffle(b, x, b.pick(factors))
    return add(b, norm(b, conv_binary(b, binarise(b, x), x.channels, b.pick((1, 3)), groups=b.pick(factors))), x)


def shuffle(b: Builder, x: Map, groups: int) -> Map:
    """Reshape, Transpose, Reshape."""
    each = x.channels // groups
    if b.batch is None and b.chance(0.4):
        parts = [b.size(x.name, 0), b.ints(groups, each, *x.space)]
        back = [b.size(x.name, 0), b.ints(x.channels, *x.space)]
        targets = [b.add("Concat", names, axis=0) for names in (parts, back)]
    else:
        first = b.pick([0, -1]) if b.batch is None else b.batch
        targets = [b.ints(first, groups, each, *x.space), b.ints(first, x.channels, *x.space)]
    y = b.add("Reshape", [x.name, targets[0]])
    y = b.add("Transpose", [y], perm=[0, 2, 1, *range(3, 3 + b.axes)])
    return Map(b.add("Reshape", [y, targets[1]]), x.channels, x.space)


def depthwise(b: Builder, x: Map) -> Map:
    """A depthwise convolution, real or binary, with one or two filters per channel."""
    times = 2 if 2 * x.channels <= WIDEST and b.chance(0.4) else 1
    if b.chance(0.5):
        y = conv_real(b, x, times * x.channels, b.pick((1, 3)), groups=x.channels)
    else:
        y = conv_binary(b, binarise(b, x), times * x.channels, 3, groups=x.channels)
    return norm(b, y)


def squeeze_excite(b: Builder, x: Map) -> Map:
    """Squeeze-and-excite with real 1x1 convolutions."""
    pooled = Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes)
    hidden = conv_real(b, pooled, b.pick((2, b.unit)))
    hidden = Map(b.add("Relu", [hidden.name]), hidden.channels, hidden.space)
    gate = b.add(b.pick(("Sigmoid", "HardSigmoid")), [conv_real(b, hidden, x.channels).name])
    return Map(b.add("Mul", [x.name, gate]), x.channels, x.space)


def padded(b: Builder, x: Map) -> Map:
    """A binarised map padded with +1 or -1 in front of an unpadded convolution, both sides or one."""
    low, high = b.pick(((1, 1), (0, 2), (2, 0)))
    signs = binarise(b, x)
    pads = [0, 0, *[low] * b.axes, 0, 0, *[high] * b.axes]
    value = b.store(np.array(b.pick((1.0, -1.0)), np.float32), "value")
    wider = Map(b.add("Pad", [signs.name, b.ints(*pads), value]), x.channels, tuple(s + 2 for s in x.space))
    return norm(b, conv_binary(b, wider, x.channels, 3, pad=False))


def shared(b: Builder, x: Map) -> Map:
    """FracBNN: one latent weight that two convolutions read."""
    weights = weight(b, x.channels, x.channels, (3,) * b.axes, b.pick(("latent", "averaged", "residue")))
    y = norm(b, convolve(b, binarise(b, x), weights, x.channels, 3))
    z = norm(b, convolve(b, binarise(b, shift(b, y)), weights, x.channels, 3))
    return add(b, y, z)


def resized(b: Builder, x: Map) -> Map:
    """Nearest neighbours, twice as large, by scales or by sizes, and pooled down again where that gets too large."""
    space = tuple(2 * size for size in x.space)
    region = "" if b.opset >= 13 else b.store(np.zeros(0, np.float32), "region")
    if b.chance(0.5) or b.batch is None:
        sizes = [b.store(np.array([1, 1, *[2] * b.axes], np.float32), "scales")]
    else:
        none = "" if b.opset >= 13 else b.store(np.zeros(0, np.float32), "none")
        sizes = [none, b.ints(b.batch, x.channels, *space)]
    made = b.add("Resize", [x.name, region, *sizes], mode="nearest")
    y = Map(made, x.channels, space)
    return pool(b, y, b.pick(("MaxPool", "AveragePool"))) if max(space) > 9 else y


def transition(b: Builder, x: Map) -> Map:
    """DenseNet's transition: BN, activation, a real 1x1 convolution to fewer channels."""
    return conv_real(b, activate(b, norm(b, x)), b.unit * b.pick((2, 3)))


BLOCKS: tuple[Block, ...] = (
    residual,
    residual,
    residual,
    pooled,
    doubled,
    dense,
    melius,
    shuffled,
    depthwise,
    squeeze_excite,
    padded,
    shared,
    resized,
)
