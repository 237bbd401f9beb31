"""Binarisations and binary weights in the spellings that exporters write."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from generated.builder import Array, Builder, Map

SPELLINGS = ("sign", "clip", "tanh", "polynomial", "where", "cast", "nested", "equal")
WEIGHTS = ("baked", "scaled", "latent", "averaged", "residue", "real")


def binarise(b: Builder, x: Map) -> Map:
    """A map of +1 and -1 (0 at 0 in some spellings)."""
    return Map(spelled(b, x.name, b.pick(SPELLINGS)), x.channels, x.space)


def spelled(b: Builder, x: str, spelling: str) -> str:
    """The binarisation of a tensor in one of `SPELLINGS`."""
    if spelling in ("where", "cast"):
        return _from_mask(b, _not_below(b, x), spelling)
    sign = b.add("Sign", [x])
    if spelling == "sign":
        return sign
    if spelling == "nested":
        return b.add("Sign", [b.add("Add", [sign, b.scalar(0.1)])])
    if spelling == "equal":
        zero = b.add("Equal", [sign, b.scalar(0.0)])
        return b.add("Where", [zero, b.scalar(1.0), sign])
    surrogate = {"clip": clip, "tanh": lambda b, x: b.add("Tanh", [x]), "polynomial": _polynomial}[spelling]
    smooth = surrogate(b, x)
    return b.add("Add", [b.add("Sub", [sign, smooth]), smooth])


def clip(b: Builder, x: str, low: float = -1.0, high: float = 1.0) -> str:
    """HardTanh."""
    bounds = [b.store(np.array(bound, np.float32), "bound") for bound in (low, high)]
    return b.add("Clip", [x, *bounds])


def _not_below(b: Builder, x: str) -> str:
    zero = b.scalar(0.0)
    if b.opset >= 12 and b.chance(0.7):
        return b.add("GreaterOrEqual", [x, zero])
    return b.add("Not", [b.add("Less", [x, zero])])


def _from_mask(b: Builder, mask: str, spelling: str) -> str:
    if spelling == "where":
        return b.add("Where", [mask, b.scalar(1.0), b.scalar(-1.0)])
    number = b.add("Cast", [mask], to=TensorProto.FLOAT)
    return b.add("Sub", [b.add("Mul", [number, b.scalar(2.0)]), b.scalar(1.0)])


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


def weight(b: Builder, count: int, inner: int, kernel: tuple[int, ...], kind: str = "") -> str:
    """Weights [count, inner, *kernel] of a binary layer in one of `WEIGHTS` (rarely real ones: step-1 models)."""
    shape = (count, inner, *kernel)
    kind = kind or str(b.random.choice(WEIGHTS, p=[0.2, 0.2, 0.15, 0.2, 0.2, 0.05]))
    values = b.away(*shape)
    if kind == "real":
        return b.store(values, "real")
    if kind in ("baked", "scaled"):
        scale = 1.0 if kind == "baked" else b.positive(count, *[1] * (len(shape) - 1))
        return b.store((np.sign(values) * scale).astype(np.float32), "signs")
    return computed(b, b.store(values, "latent"), len(shape), kind)


def computed(b: Builder, latent: str, rank: int, kind: str) -> str:
    """The binary weights that are computed in the graph from a stored latent tensor."""
    if kind == "latent":
        return b.add("Sign", [latent])
    scale = b.add("Abs", [latent])
    if b.chance(0.5):
        for axis in range(rank - 1, 0, -1):
            scale = b.reduce("ReduceMean", scale, [axis])
    else:
        scale = b.reduce("ReduceMean", scale, list(range(1, rank)))
    signs = b.add("Mul", [scale, b.add("Sign", [latent])])
    if kind == "averaged":
        return signs
    bounded = clip(b, latent)
    return b.add("Add", [b.add("Sub", [signs, bounded]), bounded])


def statistics(b: Builder, channels: int) -> list[str]:
    """Scale (of both signs), bias, mean and variance of a BatchNormalization."""
    values: list[Array] = [b.away(channels), b.normal(channels), b.normal(channels), b.positive(channels)]
    return [b.store(value, "bn") for value in values]
