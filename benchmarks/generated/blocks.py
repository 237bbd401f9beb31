"""The blocks of published binary networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from benchmarks.generated.binary import binarise, weight
from benchmarks.generated.builder import Builder, Map
from benchmarks.generated.layers import (
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
from benchmarks.generated.spelling import channels, pad, shape_of, split

Block = Callable[[Builder, Map], Map]
#: No map gets more channels than this.
WIDEST = 24


def residual(b: Builder, x: Map) -> Map:
    """Bi-Real's block: Sign, convolution, BN and a shortcut, with the orders that other papers use."""
    y = binarise(b, norm(b, x) if b.chance(0.3) else shift(b, x) if b.chance(0.3) else x)
    y = conv_binary(b, y, x.channels, b.pick((3, 1)))
    if b.chance(0.25):
        y = scale(b, y)
    if b.chance(0.85):
        y = norm(b, y)
    if b.chance(0.85):
        y = add(b, *((y, x) if b.chance(0.5) else (x, y)))
    return activate(b, y)


def smaller(b: Builder, x: Map, shortcut: str) -> Map:
    """The block that halves a map, with one of the shortcuts that papers use; some double the channels."""
    b.need(min(x.space) >= 4)
    twice = shortcut != "strided Slice" and 2 * x.channels <= WIDEST
    count = 2 * x.channels if twice else x.channels
    y = norm(b, conv_binary(b, binarise(b, x), count, b.pick((3, 1)), 2))
    if shortcut == "binary":
        short = norm(b, conv_binary(b, binarise(b, x), count, 1, 2))
    elif shortcut == "real":
        short = norm(b, conv_real(b, x, count, 1, 2))
    elif shortcut == "strided Slice":
        short = subsample(b, x)
    else:
        b.need(twice)
        short = subsample(b, x) if shortcut == "option A" else pool(b, x, "AveragePool")
        if shortcut == "AveragePool, Concat":
            short = concat(b, [short, short])
        elif shortcut == "AveragePool, convolution":
            short = norm(b, conv_real(b, short, count))
        else:
            short = padded_channels(b, short, b.choices.integer(0, count - x.channels), count)
    return activate(b, add(b, y, short))


def padded_channels(b: Builder, x: Map, before: int, count: int, value: float | None = None) -> Map:
    """A map with further channels of one value."""
    none = [0] * b.axes
    return Map(pad(b, x.name, [0, before, *none, 0, count - x.channels - before, *none], value), count, x.space)


def pooled(b: Builder, x: Map) -> Map:
    """XNOR-Net's order: BN, Sign, convolution, MaxPool in front of the next BN."""
    y = conv_binary(b, binarise(b, norm(b, x)), x.channels)
    return norm(b, pool(b, y, "MaxPool", 2, 2 if min(y.space) >= 4 else 1))


def doubled(b: Builder, x: Map) -> Map:
    """ReActNet's doubling: two 1x1 convolutions of one binarised map, each with its shortcut, and Concat."""
    b.need(2 * x.channels <= WIDEST)
    signs = binarise(b, shift(b, x))
    halves = [add(b, norm(b, conv_binary(b, signs, x.channels, 1)), x) for _ in range(2)]
    return activate(b, concat(b, halves))


def dense(b: Builder, x: Map) -> Map:
    """BinaryDenseNet's growth: BN, Sign, convolution, Concat."""
    b.need(x.channels + b.unit <= WIDEST)
    y = conv_binary(b, binarise(b, norm(b, x)), b.unit)
    return concat(b, [x, y] if b.chance(0.7) else [y, x])


def melius(b: Builder, x: Map, how: str) -> Map:
    """MeliusNet's improvement: the last channels get the sum with a convolution, by Split or by Slices."""
    part = b.unit if b.unit < x.channels else x.channels // 2
    b.need(part > 0)
    rest = x.channels - part
    y = norm(b, conv_binary(b, binarise(b, x), part))
    if how == "Split":
        kept, last = split(b, x.name, [rest, part])
    elif how == "Slices from the end":
        kept, last = channels(b, x.name, 0, -part), channels(b, x.name, -part, 2**31 - 1)
    else:
        kept, last = channels(b, x.name, 0, rest), channels(b, x.name, rest, x.channels)
    better = b.add("Add", [last, y.name])
    return Map(b.add("Concat", [kept, better], axis=1), x.channels, x.space)


def shuffled(b: Builder, x: Map, how: str) -> Map:
    """A grouped binary convolution behind a channel shuffle."""
    factors = [groups for groups in (2, 3, 4) if x.channels % groups == 0 and x.channels > groups]
    b.need(bool(factors), how == "computed" or not b.free)
    y = shuffle(b, x, b.pick(factors), how)
    return add(b, norm(b, conv_binary(b, binarise(b, y), x.channels, b.pick((3, 1)), groups=b.pick(factors))), y)


def shuffle(b: Builder, x: Map, groups: int, how: str) -> Map:
    """Reshape, Transpose, Reshape."""
    each = x.channels // groups
    if how == "computed":
        targets = [shape_of(b, x, groups, each), shape_of(b, x, x.channels)]
    else:
        first = b.pick([0, -1]) if b.batch is None else b.batch
        targets = [b.ints(first, groups, each, *x.space), b.ints(first, x.channels, *x.space)]
    y = b.add("Reshape", [x.name, targets[0]])
    y = b.add("Transpose", [y], perm=[0, 2, 1, *range(3, 3 + b.axes)])
    return Map(b.add("Reshape", [y, targets[1]]), x.channels, x.space)


def depthwise(b: Builder, x: Map, kind: str) -> Map:
    """A depthwise convolution, real or binary, with one or two filters per channel."""
    times = 2 if 2 * x.channels <= WIDEST and b.chance(0.4) else 1
    if kind == "real":
        return norm(b, conv_real(b, x, times * x.channels, b.pick((3, 1)), groups=x.channels))
    return norm(b, conv_binary(b, binarise(b, x), times * x.channels, 3, groups=x.channels))


def grouped(b: Builder, x: Map) -> Map:
    """A grouped binary convolution whose groups the replication factor may not divide."""
    factors = [groups for groups in (2, 3, 4) if x.channels % groups == 0 and x.channels > groups]
    b.need(bool(factors))
    return norm(b, conv_binary(b, binarise(b, x), x.channels, 3, groups=b.pick(factors)))


def squeeze_excite(b: Builder, x: Map) -> Map:
    """Squeeze-and-excite with real 1x1 convolutions."""
    mean = Map(b.add("GlobalAveragePool", [x.name]), x.channels, (1,) * b.axes)
    hidden = conv_real(b, mean, b.pick((b.unit, 2)))
    hidden = Map(b.add("Relu", [hidden.name]), hidden.channels, hidden.space)
    gate = b.add(b.pick(("Sigmoid", "HardSigmoid")), [conv_real(b, hidden, x.channels).name])
    return Map(b.add("Mul", [x.name, gate]), x.channels, x.space)


def padded(b: Builder, x: Map, value: float) -> Map:
    """A binarised map padded with +1 or -1 in front of an unpadded convolution, both sides or one."""
    low, high = b.pick(((1, 1), (0, 2), (2, 0)))
    pads = [0, 0, *[low] * b.axes, 0, 0, *[high] * b.axes]
    signs = pad(b, binarise(b, x).name, pads, value)
    wider = Map(signs, x.channels, tuple(size + 2 for size in x.space))
    return norm(b, conv_binary(b, wider, x.channels, 3, pad=False))


def shared(b: Builder, x: Map) -> Map:
    """FracBNN: one latent weight that two convolutions read."""
    weights = weight(b, x.channels, x.channels, (3,) * b.axes)
    y = norm(b, convolve(b, binarise(b, x), weights, x.channels, 3))
    z = norm(b, convolve(b, binarise(b, shift(b, y)), weights, x.channels, 3))
    return add(b, y, z)


def transition(b: Builder, x: Map) -> Map:
    """DenseNet's transition: BN, activation, a real 1x1 convolution to fewer channels."""
    return conv_real(b, activate(b, norm(b, x)), b.unit * b.pick((2, 3)))


def ternary(b: Builder, x: Map) -> Map:
    """Weights of -1, 0 and 1 on a binarised map."""
    values = b.random.integers(-1, 2, (x.channels, x.channels, *(3,) * b.axes)).astype(np.float32)
    return norm(b, convolve(b, binarise(b, x), b.store(values, "ternary"), x.channels, 3))


def exact_zero(b: Builder, x: Map) -> Map:
    """Binary weights of which one is exactly 0."""
    values = np.sign(b.away(x.channels, x.channels, *(3,) * b.axes))
    values.reshape(-1)[int(b.random.integers(values.size))] = 0.0
    return norm(b, convolve(b, binarise(b, x), b.store(values, "signs"), x.channels, 3))


def zero_one(b: Builder, x: Map) -> Map:
    """Activations of 0 and 1 into weights of +1 and -1: no binary layer."""
    b.need(b.has("Sign"))
    signs = Map(b.add("Sign", [b.add("Relu", [x.name])]), x.channels, x.space)
    weights = b.store(np.sign(b.away(x.channels, x.channels, *(3,) * b.axes)), "signs")
    return norm(b, convolve(b, signs, weights, x.channels, 3))


def between(b: Builder, x: Map, kind: str) -> Map:
    """Pooling or Concat between a binarisation and its layer."""
    signs = binarise(b, x)
    if kind == "Concat":
        signs = concat(b, [signs, binarise(b, shift(b, x))])
        return norm(b, conv_binary(b, signs, x.channels, 1))
    return norm(b, conv_binary(b, pool(b, signs, kind, 2, 1), x.channels, 1))


_SHORTCUTS = ("binary", "real", "strided Slice", "option A", "AveragePool, Concat", "AveragePool, convolution")

BLOCKS: Mapping[str, Block] = {
    "residual block": residual,
    **{f"halving, shortcut: {kind}": partial(smaller, shortcut=kind) for kind in _SHORTCUTS},
    "pooling in front of the norm": pooled,
    "doubled by Concat": doubled,
    "dense growth": dense,
    **{f"improvement by {how}": partial(melius, how=how) for how in ("Split", "Slices", "Slices from the end")},
    **{f"shuffle, {how} shape": partial(shuffled, how=how) for how in ("stored", "computed")},
    "depthwise, real": partial(depthwise, kind="real"),
    "depthwise, binary": partial(depthwise, kind="binary"),
    "grouped binary convolution": grouped,
    "squeeze and excite": squeeze_excite,
    "padded with +1": partial(padded, value=1.0),
    "padded with -1": partial(padded, value=-1.0),
    "weights read twice": shared,
    "transition": transition,
    "ternary weights": ternary,
    "a weight of exactly 0": exact_zero,
    "0/1 activations": zero_one,
    **{f"{kind} behind a sign": partial(between, kind=kind) for kind in ("MaxPool", "AveragePool", "Concat")},
}

#: The blocks behind which copies differ.
MIXING = (
    "doubled by Concat",
    "dense growth",
    "improvement by Split",
    "improvement by Slices",
    "improvement by Slices from the end",
    "shuffle, stored shape",
    "shuffle, computed shape",
    "halving, shortcut: option A",
    "halving, shortcut: AveragePool, Concat",
    "Concat behind a sign",
)
