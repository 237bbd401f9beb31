"""Spellings of the binarisation that is +1 at 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import binarised, is_sign, sign_up
from reptran_compiler.rewriting import Match, preserves, rule


def _require(m: Match, tensor: Tensor, value: float) -> None:
    m.require(m.facts.uniform(tensor) == value, f"is not known to be {value:g} everywhere", tensor)


def _sign_up(m: Match, g: Graph) -> Tensor:
    """The canonical spelling, where the match has the type and shape of x."""
    x, out = m.facts.source(m.x), m.facts.source(m.root.outputs[0])
    m.require(binarised(m.root.outputs[0]) is not m.x, "is canonical already")
    m.require(x.dtype == out.dtype, "changes the type")
    shapes = [m.facts.source(t) for t in (m.x, m.root.outputs[0])]
    constant = m.facts.constant(m.x) and shapes[0].shape == shapes[1].shape
    m.require(constant or m.context.same_shape(m.x, m.root.outputs[0]), "an operand may widen the shape")
    return sign_up(g, m.x, np.dtype(x.dtype))


def _not_below(p: Any, x: Any) -> Any:
    """`x >= 0` in the spellings of all opsets."""
    return p.either(
        p.GreaterOrEqual(x, p.any("zero")),
        p.LessOrEqual(p.any("zero"), x),
        p.Not(p.Less(x, p.any("zero"))),
        p.Not(p.Greater(p.any("zero"), x)),
    )


def _below(p: Any, x: Any) -> Any:
    """`x < 0`."""
    return p.either(
        p.Less(x, p.any("zero")),
        p.Greater(p.any("zero"), x),
        p.Not(p.GreaterOrEqual(x, p.any("zero"))),
    )


@rule("sign-from-where", effect=preserves(), order=20)
class SignFromWhere:
    """`Where(x >= 0, 1, -1)`, or turned round, becomes the canonical binarisation that is +1 at 0."""

    def pattern(p: Any, x: Any) -> Any:
        return p.either(
            p.Where(_not_below(p, x), p.any("one"), p.any("minus")),
            p.Where(_below(p, x), p.any("minus"), p.any("one")),
        )

    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.one, 1.0)
        _require(m, m.minus, -1.0)
        return _sign_up(m, g)


@rule("sign-from-cast", effect=preserves(), order=21)
class SignFromCast:
    """`2 * cast(x >= 0) - 1` becomes the canonical binarisation that is +1 at 0."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Sub Add", p.Mul(p.Cast(_not_below(p, x)), p.any("two")), p.any("one"))

    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.two, 2.0)
        _require(m, m.one, 1.0 if m.root.op == "Sub" else -1.0)
        return _sign_up(m, g)


@rule("sign-from-casts", effect=preserves(), order=21)
class SignFromCasts:
    """`cast(x >= 0) - cast(x < 0)`, Keras' spelling, becomes the canonical binarisation that is +1 at 0."""

    def pattern(p: Any, x: Any) -> Any:
        up = _not_below(p, x)
        high, low = p.Cast(up), p.Mul(p.Cast(p.either(p.Not(up), _below(p, x))), p.any("minus"))
        return p.either(p.Add(p.Mul(high, p.any("one")), low), p.Add(high, low))

    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.minus, -1.0)
        if m.get("one") is not None:
            _require(m, m.one, 1.0)
        return _sign_up(m, g)


@rule("sign-from-nested", effect=preserves(), order=22)
class SignFromNested:
    """`Sign(Sign(x) + c)` with 0 < c < 1 becomes the canonical binarisation that is +1 at 0."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Sign(p.Add(p.Sign(x), p.any("shift")))

    def rewrite(m: Match, g: Graph) -> Tensor:
        shift = m.facts.uniform(m.shift)
        m.require(shift is not None and 0.0 < shift < 1.0, "is not known to lie between 0 and 1", m.shift)
        return _sign_up(m, g)


@rule("sign-from-equal", effect=preserves(), order=23)
class SignFromEqual:
    """`Where(Sign(x) == 0, 1, Sign(x))` becomes the canonical binarisation that is +1 at 0."""

    def pattern(p: Any, x: Any) -> Any:
        sign = p.Sign(x, name="sign")
        return p.Where(p.Equal(sign, p.any("zero")), p.any("one"), sign)

    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.one, 1.0)
        return _sign_up(m, g)


@rule("sign-of-sign", effect=preserves(), order=25)
class SignOfSign:
    """A binarisation of a binarisation becomes one, +1 at 0 where either of them is."""

    def pattern(p: Any) -> Any:
        return p.op("Sign Where Sub")

    def rewrite(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        inner = binarised(out)
        x = None if inner is None else binarised(inner)
        m.require(x is not None, "binarises no binarisation")
        assert inner is not None and x is not None, "asked for above"
        m.require(not m.facts.constant(x), "binarises stored weights")
        if is_sign(out) and is_sign(inner):
            return g.node("Sign", [x], name=m.root.name).outputs[0]
        return sign_up(g, x, np.dtype(m.facts.source(out).dtype))
