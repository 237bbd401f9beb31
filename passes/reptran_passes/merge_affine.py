"""THEORY rule 4: what is per channel and stands side by side becomes one affine, one scale and one offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule

Array = NDArray[Any]


def per_channel(tensor: Tensor) -> bool:
    """Whether a tensor is stored, of floats, with at most one axis longer than 1."""
    if not isinstance(tensor, Constant) or np.dtype(tensor.dtype).kind != "f":
        return False
    return len([size for size in tensor.shape if size != 1]) <= 1


def _fits(m: Match, *operands: Tensor) -> None:
    """Require that the operands lie along one axis of x and do not widen its shape."""
    x = m.facts.of(m.x).shape
    sizes = [(len(x) - len(t.shape) + place, size) for t in operands for place, size in enumerate(t.shape)]
    long = {(axis, size) for axis, size in sizes if size != 1}
    m.require(len(long) <= 1, "the operands lie along different axes")
    m.require(all(axis >= 0 and x[axis] == size for axis, size in long), "an operand widens the shape")


def _stored(m: Match, g: Graph, kind: str, values: Array) -> Constant:
    return g.constant(f"{m.root.name}/{kind}", values.astype(m.facts.of(m.x).dtype))


def _value(tensor: Tensor) -> Array:
    return np.asarray(tensor.values, np.float64)


@rule("merge-scales", effect=preserves(), phase="finish", order=11)
class MergeScales:
    """`(x * a) * b` becomes `x * ab`."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Mul(p.Mul(x, p.const("a", test=per_channel)), p.const("b", test=per_channel))

    def rewrite(m: Match, g: Graph) -> Tensor:
        _fits(m, m.a, m.b)
        product = _stored(m, g, "scale", _value(m.a) * _value(m.b))
        return g.node("Mul", [m.x, product], like=m.root).outputs[0]


@rule("scale-before-offset", effect=preserves(), phase="finish", order=12)
class ScaleBeforeOffset:
    """`(x + b) * a` becomes `x * a + ab`."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Mul(p.Add(x, p.const("b", test=per_channel), name="sum"), p.const("a", test=per_channel))

    def rewrite(m: Match, g: Graph) -> Tensor:
        _fits(m, m.a, m.b)
        scaled = g.node("Mul", [m.x, _stored(m, g, "scale", _value(m.a))], name=f"{m.root.name}/Mul").outputs[0]
        offset = _stored(m, g, "offset", _value(m.a) * _value(m.b))
        return g.node("Add", [scaled, offset], like=m.root).outputs[0]


@rule("merge-offsets", effect=preserves(), phase="finish", order=13)
class MergeOffsets:
    """`(x + a) + b` becomes `x + (a + b)`."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Add(p.Add(x, p.const("a", test=per_channel)), p.const("b", test=per_channel))

    def rewrite(m: Match, g: Graph) -> Tensor:
        _fits(m, m.a, m.b)
        return g.node("Add", [m.x, _stored(m, g, "offset", _value(m.a) + _value(m.b))], like=m.root).outputs[0]
