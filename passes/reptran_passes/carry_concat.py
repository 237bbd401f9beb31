"""Concat: wide operands side by side along the channels (copies mix there), each copy alone along other axes."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, rebuilt, replicates
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule


def _axis(m: Match) -> int:
    """The channel axis of the wide operands."""
    states = [state for tensor in m.root.inputs if (state := m.context.wide(tensor)) is not None]
    m.require(bool(states), "no operand is wide")
    m.require(all(state.outer == 1 for state in states), "the copies lie interleaved")
    m.require(len({state.axis for state in states}) == 1, "wide operands have their channels on different axes")
    return int(states[0].axis)


def _along(m: Match) -> int:
    return int(m.root.attrs["axis"]) % int(m.context.rank(m.root.outputs[0]))


def _operands(m: Match, g: Graph, axis: int) -> list[Tensor]:
    """The operands, narrow ones repeated."""
    return [t if m.context.wide(t) is not None else m.context.repeated(g, t, axis) for t in m.root.inputs]


@rule("carry-concat-channels", effect=reparametrises(), phase="replicate", order=CARRIERS)
class ConcatChannels:
    """Concat along the channels: [a(0)..a(beta-1) b(0)..b(beta-1)], as in the authors' code."""

    def pattern(p: Any) -> Any:
        return p.Concat()

    def check(m: Match) -> None:
        m.require(_axis(m) == _along(m), "is not along the channels")

    def rewrite(m: Match, g: Graph) -> Tagged:
        axis, out = _axis(m), m.root.outputs[0]
        made = rebuilt(m, g, _operands(m, g, axis))[0]
        return Tagged(made, Wide(axis, m.context.shape(out)[axis], 1, equal=False))

    def witness(m: Match, g: Graph) -> Tensor:
        axis = _axis(m)
        parts: list[Tensor] = []
        for tensor in m.root.inputs:
            wide = m.context.wide(tensor) is not None
            parts += [tensor] if wide else [tensor] * m.context.beta
        return g.node("Concat", parts, {"axis": axis}, name="witness").outputs[0]


@rule("carry-concat", effect=replicates(), phase="replicate", order=CARRIERS)
class Concat:
    """Concat along another axis: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Concat()

    def check(m: Match) -> None:
        m.require(_axis(m) != _along(m), "is along the channels")

    def rewrite(m: Match, g: Graph) -> Tagged:
        axis, out = _axis(m), m.root.outputs[0]
        equal = all(state.equal for tensor in m.root.inputs if (state := m.context.wide(tensor)) is not None)
        made = rebuilt(m, g, _operands(m, g, axis))[0]
        return Tagged(made, Wide(axis, m.context.shape(out)[axis], 1, equal))
