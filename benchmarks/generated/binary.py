"""Binarisations and binary weights in the spellings that exporters write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from benchmarks.generated.builder import Array, Builder, Map
from benchmarks.generated.spelling import clip, reduce


def binarise(b: Builder, x: Map) -> Map:
    """A map of +1 and -1 (0 at 0 in some spellings)."""
    return Map(spelled_sign(b, x, b.variant("sign")), x.channels, x.space)


def spelled_sign(b: Builder, x: Map, spelling: str) -> str:
    """The binarisation of a map in one of the spellings of `constructs.VARIANTS`."""
    if spelling.startswith(("Where", "Cast")):
        return _from_mask(b, x, spelling)
    if spelling == "Keras":
        return _keras(b, x.name)
    sign = b.add("Sign", [x.name])
    if spelling == "Sign":
        return sign
    if spelling == "nested":
        return b.add("Sign", [b.add("Add", [sign, b.scalar(0.1)])])
    if spelling == "Equal":
        zero = b.add("Equal", [sign, b.scalar(0.0)])
        return b.add("Where", [zero, b.scalar(1.0), sign])
    if spelling == "residue of zero":
        smooth = clip(b, x.name)
        return b.add("Add", [b.add("Sub", [smooth, smooth]), sign])
    smooth = _SURROGATES[spelling](b, x.name)
    return b.add("Add", [b.add("Sub", [sign, smooth]), smooth])


def _from_mask(b: Builder, x: Map, spelling: str) -> str:
    if spelling == "Where below":
        below = b.add("Less", [x.name, b.scalar(0.0)]) if b.chance(0.5) else b.add("Greater", [b.scalar(0.0), x.name])
        return b.add("Where", [below, b.scalar(-1.0), b.scalar(1.0)])
    mask = _not_below(b, x.name)
    # Behind an If nothing tells that constants of a map's shape do not widen it.
    dense = not b.free and x.space and "If on the image" not in b.constructs
    if spelling == "Where, dense constants" and dense:
        shape = (1, x.channels, *x.space)
        ones = [b.store(np.full(shape, value, np.float32), "dense") for value in (1.0, -1.0)]
        return b.add("Where", [mask, *ones])
    if spelling.startswith("Where"):
        return b.add("Where", [mask, b.scalar(1.0), b.scalar(-1.0)])
    double = b.add("Mul", [b.add("Cast", [mask], to=TensorProto.FLOAT), b.scalar(2.0)])
    if spelling == "Cast, Sub":
        return b.add("Sub", [double, b.scalar(1.0)])
    return b.add("Add", [double, b.scalar(-1.0)])


def _not_below(b: Builder, x: str) -> str:
    zero = b.scalar(0.0)
    if b.opset >= 12 and b.chance(0.6):
        return b.add("GreaterOrEqual", [x, zero]) if b.chance(0.6) else b.add("LessOrEqual", [zero, x])
    return b.add("Not", [b.add("Less", [x, zero]) if b.chance(0.6) else b.add("Greater", [zero, x])])


def _keras(b: Builder, x: str) -> str:
    """Keras 3: 1 where x >= 0 and -1 elsewhere, with a straight-through residue."""
    up = b.add("GreaterOrEqual", [x, b.scalar(0.0)])
    down = b.add("Cast", [b.add("Not", [up])], to=TensorProto.FLOAT)
    down = b.add("Mul", [down, b.scalar(-1.0)])
    high = b.add("Mul", [b.add("Cast", [up], to=TensorProto.FLOAT), b.scalar(1.0)])
    sign = b.add("Add", [high, down])
    smooth = clip(b, x)
    return b.add("Add", [smooth, b.add("Sub", [sign, smooth])])


def _polynomial(b: Builder, x: str) -> str:
    """ReActNet's approximation of the sign: two parabolas between -1 and 1."""

    def mask(bound: float) -> str:
        return b.add("Cast", [b.add("Less", [x, b.scalar(bound)])], to=TensorProto.FLOAT)

    def choose(chosen: str, inside: str, outside: str) -> str:
        rest = b.add("Sub", [b.scalar(1.0), chosen])
        return b.add("Add", [b.add("Mul", [inside, chosen]), b.add("Mul", [outside, rest])])

    square, double = b.add("Mul", [x, x]), b.add("Mul", [x, b.scalar(2.0)])
    left = choose(mask(-1.0), b.scalar(-1.0), b.add("Add", [square, double]))
    middle = choose(mask(0.0), left, b.add("Add", [b.add("Neg", [square]), double]))
    return choose(mask(1.0), middle, b.scalar(1.0))


def _tanh(b: Builder, x: str) -> str:
    return b.add("Tanh", [x])


_SURROGATES: dict[str, Callable[[Builder, str], str]] = {
    "HardTanh residue": clip,
    "Tanh residue": _tanh,
    "polynomial residue": _polynomial,
}


def weight(b: Builder, count: int, inner: int, kernel: tuple[int, ...], *but: str) -> str:
    """Weights [count, inner, *kernel] of a binary layer in one of the spellings.

    Args:
        b: the graph.
        count: of filters.
        inner: channels that a filter reads.
        kernel: sizes in space, none for a linear layer.
        but: spellings that are not taken.
    """
    kind = b.variant("weights", *but)
    shape = (count, inner, *kernel)
    values = b.away(*shape)
    if kind == "real":
        return b.store(values, "real")
    if kind in ("baked", "scaled"):
        scale: Array | float = 1.0 if kind == "baked" else b.positive(count, *[1] * (len(shape) - 1))
        return b.store((np.sign(values) * scale).astype(np.float32), "signs")
    if kind == "turned kernel":
        last = (*range(2, len(shape)), 1, 0)
        turned = b.store(np.ascontiguousarray(np.sign(values).transpose(last)), "turned")
        return b.add("Transpose", [turned], perm=[int(axis) for axis in np.argsort(last)])
    return computed(b, b.store(values, "latent"), len(shape), kind)


def computed(b: Builder, latent: str, rank: int, kind: str) -> str:
    """The binary weights that are computed in the graph from a stored latent tensor."""
    if kind == "latent":
        return b.add("Sign", [latent])
    if kind == "latent, +1 at 0":
        below = b.add("Not", [b.add("Less", [latent, b.scalar(0.0)])])
        return b.add("Where", [below, b.scalar(1.0), b.scalar(-1.0)])
    if kind == "standardised":
        mean = reduce(b, "ReduceMean", latent, list(range(1, rank)))
        centred = b.add("Sub", [latent, mean])
        spread = b.add("Sqrt", [reduce(b, "ReduceMean", b.add("Mul", [centred, centred]), list(range(1, rank)))])
        return b.add("Sign", [b.add("Div", [centred, spread])])
    scale = b.add("Abs", [latent])
    if b.chance(0.5):
        for axis in range(rank - 1, 0, -1):
            scale = reduce(b, "ReduceMean", scale, [axis])
    else:
        scale = reduce(b, "ReduceMean", scale, list(range(1, rank)))
    sign = b.add("Sign", [latent])
    signs = b.add("Mul", [sign, scale] if kind == "scale behind Sign" else [scale, sign])
    if kind != "averaged residue":
        return signs
    bounded = clip(b, latent)
    return b.add("Add", [b.add("Sub", [signs, bounded]), bounded])


def statistics(b: Builder, channels: int) -> list[str]:
    """Scale (of both signs), bias, mean and variance of a BatchNormalization."""
    values: list[Array] = [b.away(channels), b.normal(channels), b.normal(channels), b.positive(channels)]
    return [b.store(value, "bn") for value in values]
