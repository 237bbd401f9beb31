"""Shape arithmetic: what does not depend on a dynamic axis is stored, what does keeps following it."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("fold-shape", effect=preserves(), order=12)
class FoldShape:
    """Integers computed from shapes that no dynamic axis reaches are stored."""

    def pattern(p: Any) -> Any:
        return p.op("*")

    def check(m: Match) -> None:
        out = m.root.outputs[0]
        m.require(len(m.root.outputs) == 1 and m.context.fixed(out) is not None, "depends on data or on a dynamic axis")
        m.require(not m.graph.is_output(out), "is a graph output", out)
        readers = [reader for reader in out.outputs if any(m.context.fixed(t) is None for t in reader.outputs)]
        m.require(bool(readers), "is only read by what is stored itself")

    def rewrite(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        return g.constant(f"{out.name}/value", m.context.fixed(out))


@rule("settle-reshape", effect=preserves(), order=13)
class SettleReshape:
    """A Reshape's computed target is stored: 0 where it copies an axis, -1 where it follows a dynamic one."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Reshape(x, p.any("target"), name="reshape")

    def check(m: Match) -> None:
        m.require(not isinstance(m.target, Constant), "its target is stored")
        m.require(not m.reshape.attrs.get("allowzero", 0), "allows empty axes")
        m.require(m.context.integers(m.target) is not None, "its target is not known", m.target)

    def rewrite(m: Match, g: Graph) -> Tensor:
        read = m.context.shape(m.x) or ()
        target: list[int] = []
        for axis, size in enumerate(m.context.integers(m.target)):
            if size.constant is not None:
                target.append(size.constant)
            else:
                target.append(0 if axis < len(read) and read[axis] == size else -1)
        m.require(target.count(-1) <= 1, "several axes of its target follow dynamic ones in their own ways", m.target)
        stored = g.constant(f"{m.reshape.name}/shape", target, np.int64)
        return g.node("Reshape", [m.x, stored], m.reshape.attrs, like=m.reshape).outputs[0]


@rule("drop-expand", effect=preserves(), order=14)
class DropExpand:
    """An operator that broadcasts anyway reads a constant itself, not its Expand."""

    def pattern(p: Any, x: Any) -> Any:
        wide = p.Expand(p.any("narrow"), p.any(), name="expand")
        return p.either(
            p.op("Add Mul", x, wide, name="reader"),
            p.op("Sub Div", x, wide, name="reader"),
            p.op("Sub Div", wide, x, name="turned"),
        )

    def check(m: Match) -> None:
        m.require(m.facts.constant(m.narrow), "what is expanded is no constant", m.narrow)
        m.require(m.context.same_shape(m.root.outputs[0], m.x), "the Expand widens the result")

    def rewrite(m: Match, g: Graph) -> Tensor:
        operands = [m.narrow, m.x] if m.get("turned") is not None else [m.x, m.narrow]
        return g.node(m.root.op, operands, m.root.attrs, like=m.root).outputs[0]
