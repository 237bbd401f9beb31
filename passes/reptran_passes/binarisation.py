"""Canonicalisation: every spelling of a binarisation becomes Sign, or its sibling that is +1 at 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


def sign_up(g: Graph, x: Tensor, dtype: Any) -> Tensor:
    """The canonical binarisation that is +1 at 0, in the spelling that the opset allows."""
    zero = g.constant("sign/zero", np.zeros((), dtype))
    one, minus = g.constant("sign/one", np.ones((), dtype)), g.constant("sign/minus", -np.ones((), dtype))
    if g.opset >= 12:
        mask = g.node("GreaterOrEqual", [x, zero], name="sign/mask").outputs[0]
    else:
        below = g.node("Less", [x, zero], name="sign/below").outputs[0]
        mask = g.node("Not", [below], name="sign/mask").outputs[0]
    if g.opset >= 9:
        made: Tensor = g.node("Where", [mask, one, minus], name="sign").outputs[0]
        return made
    kind = 1 if np.dtype(dtype) == np.float32 else 11 if np.dtype(dtype) == np.float64 else 10
    cast = g.node("Cast", [mask], {"to": kind}, name="sign/cast").outputs[0]
    double = g.node(
        "Mul", [cast, g.constant("sign/two", 2 * np.ones((), dtype))], name="sign/double"
    ).outputs[0]
    made = g.node("Sub", [double, one], name="sign").outputs[0]
    return made


def binarised(tensor: Tensor) -> Tensor | None:
    """What enters the canonical binarisation that makes a tensor; None where none makes it."""
    if not tensor.inputs:
        return None
    node: Node = tensor.inputs[0]
    if node.op == "Sign":
        found: Tensor = node.inputs[0]
        return found
    if node.op == "Where" and _is(node.inputs[1], 1.0) and _is(node.inputs[2], -1.0):
        mask = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        if mask is not None and mask.op == "Not" and mask.inputs[0].inputs:
            mask = mask.inputs[0].inputs[0]
            return mask.inputs[0] if mask.op == "Less" and _is(mask.inputs[1], 0.0) else None
        if mask is not None and mask.op == "GreaterOrEqual" and _is(mask.inputs[1], 0.0):
            return mask.inputs[0]
    return None


def _is(tensor: Tensor, value: float) -> bool:
    return (
        isinstance(tensor, Constant)
        and tensor.values.size == 1
        and float(tensor.values.reshape(-1)[0]) == value
    )


def _uniform(m: Match, tensor: Tensor) -> float | None:
    if isinstance(tensor, Constant):
        flat = tensor.values.reshape(-1)
        return float(flat[0]) if flat.size and bool((flat == flat[0]).all()) else None
    known: float | None = m.uniform.get(tensor.name)
    return known


def _require(m: Match, tensor: Tensor, value: float) -> None:
    m.require(_uniform(m, tensor) == value, f"is not {value:g} everywhere", tensor)


def _scalar_form(m: Match, operands: list[Tensor]) -> bool:
    """Whether the operands, taken as scalars, leave the shape as it is."""
    return bool(m.facts[m.root.outputs[0].name].shape == m.facts[m.x.name].shape) and bool(operands)


@rule("sign-from-where", effect=preserves())
class SignFromWhere:
    """`Where(x >= 0, 1, -1)`, its operands scalars or expanded, becomes the canonical sign with +1 at 0."""

    @staticmethod
    def pattern(p: Any, x: Any) -> Any:
        return p.Where(
            p.either(
                p.GreaterOrEqual(x, p.any("zero"), name="compare"),
                p.Not(p.Less(x, p.any("zero")), name="compare"),
            ),
            p.any("one"),
            p.any("minus"),
        )

    @staticmethod
    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.one, 1.0)
        _require(m, m.minus, -1.0)
        m.require(_scalar_form(m, [m.one]), "an operand widens the shape")
        if binarised(m.root.outputs[0]) is not None:
            m.require(False, "is canonical already")
        return sign_up(g, m.x, m.facts[m.x.name].dtype)


@rule("sign-from-cast", effect=preserves())
class SignFromCast:
    """`2 * cast(x >= 0) - 1` becomes the canonical sign with +1 at 0."""

    @staticmethod
    def pattern(p: Any, x: Any) -> Any:
        mask = p.either(p.GreaterOrEqual(x, p.any("zero")), p.Not(p.Less(x, p.any("zero"))))
        return p.op("Sub Add", p.Mul(p.Cast(mask), p.any("two")), p.any("one"))

    @staticmethod
    def rewrite(m: Match, g: Graph) -> Tensor:
        m.require(g.opset >= 9, "is canonical already")
        _require(m, m.zero, 0.0)
        _require(m, m.two, 2.0)
        _require(m, m.one, 1.0 if m.root.op == "Sub" else -1.0)
        m.require(m.facts[m.root.outputs[0].name].dtype == m.facts[m.x.name].dtype, "changes the type")
        return sign_up(g, m.x, m.facts[m.x.name].dtype)


@rule("sign-from-nested", effect=preserves())
class SignFromNested:
    """`Sign(Sign(x) + c)` with 0 < c < 1 becomes the canonical sign with +1 at 0."""

    @staticmethod
    def pattern(p: Any, x: Any) -> Any:
        return p.Sign(p.Add(p.Sign(x), p.any("shift")))

    @staticmethod
    def rewrite(m: Match, g: Graph) -> Tensor:
        shift = _uniform(m, m.shift)
        m.require(shift is not None and 0.0 < shift < 1.0, "is not a number between 0 and 1", m.shift)
        return sign_up(g, m.x, m.facts[m.x.name].dtype)


@rule("sign-from-equal", effect=preserves())
class SignFromEqual:
    """`Where(Sign(x) == 0, 1, Sign(x))` becomes the canonical sign with +1 at 0."""

    @staticmethod
    def pattern(p: Any, x: Any) -> Any:
        sign = p.Sign(x, name="sign")
        return p.Where(p.Equal(sign, p.any("zero")), p.any("one"), sign)

    @staticmethod
    def rewrite(m: Match, g: Graph) -> Tensor:
        _require(m, m.zero, 0.0)
        _require(m, m.one, 1.0)
        return sign_up(g, m.x, m.facts[m.x.name].dtype)


def _source(m: Match) -> list[Tensor]:
    source = binarised(m.b)
    return [] if source is None or isinstance(source, Constant) else [source]


def _again(m: Match, g: Graph) -> Tensor:
    source = binarised(m.b)
    m.require(source is not None or m.b.name not in m.data, "is no binarisation", m.b)
    m.require(m.facts[m.root.outputs[0].name].shape == m.facts[m.b.name].shape, "changes the shape")
    if isinstance(m.b, Constant):
        return g.constant(f"{m.b.name}/copy", m.b.values)
    made: Node = m.b.inputs[0]
    return g.node(made.op, list(made.inputs), made.attrs, name=made.name).outputs[0]


@rule("straight-through", effect=preserves())
class StraightThrough:
    """`(b - p) + p` around a binarisation b becomes b: what a straight-through estimator leaves in a file."""

    @staticmethod
    def pattern(p: Any) -> Any:
        b, q = p.any("b"), p.any("p")
        return p.op("Add", p.either(p.Sub(b, q)), q)

    frontier = staticmethod(_source)
    rewrite = staticmethod(_again)


@rule("residue-of-zero", effect=preserves())
class ResidueOfZero:
    """`(p - p) + b` around a binarisation b becomes b."""

    @staticmethod
    def pattern(p: Any) -> Any:
        q = p.any("p")
        return p.Add(p.Sub(q, q), p.any("b"))

    frontier = staticmethod(_source)
    rewrite = staticmethod(_again)


RULES = (SignFromWhere, SignFromCast, SignFromNested, SignFromEqual, StraightThrough, ResidueOfZero)
