"""Reductions: over space each copy alone, over the channels all copies together."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, as_ints, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule

_TYPES = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ArgMax ArgMin"
)


def _axes(m: Match) -> list[int]:
    """The axes that are reduced, in either spelling (attribute, or second input in later opsets)."""
    root, rank = m.root, int(m.context.rank(m.root.inputs[0]))
    if root.op in ("ArgMax", "ArgMin"):
        return [int(root.attrs.get("axis", 0)) % rank]
    given = root.input(1)
    m.require(given is None or isinstance(given, Constant), "its axes are computed")
    axes = as_ints(given.values) if given is not None else [int(axis) for axis in root.attrs.get("axes", [])]
    if not axes and not root.attrs.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return [axis % rank for axis in axes]


@rule("carry-reduction", effect=replicates(), phase="replicate", order=CARRIERS)
class Reduction:
    """A reduction over other axes than the channels: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.op(_TYPES)

    def check(m: Match) -> None:
        m.require(wide_operand(m).axis not in _axes(m), "reduces the channels")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, axis = wide_operand(m), wide_operand(m).axis
        if not m.root.attrs.get("keepdims", 1):
            axis -= sum(1 for each in _axes(m) if each < axis)
        return Tagged(m.root.outputs[0], Wide(axis, state.size, state.outer, state.equal))


@rule("carry-channel-reduction", effect=reparametrises(), phase="replicate", order=CARRIERS)
class ChannelReduction:
    """A reduction over the channels runs over all of t^, and its result is not wide."""

    def pattern(p: Any) -> Any:
        return p.op(_TYPES)

    def check(m: Match) -> None:
        m.require(wide_operand(m).axis in _axes(m), "does not reduce the channels")

    def rewrite(m: Match, g: Graph) -> Tensor:
        return m.root.outputs[0]

    def witness(m: Match, g: Graph) -> Tensor:
        """The same reduction of the copies side by side."""
        state = wide_operand(m)
        order = state.order(m.context.beta).reshape(-1)
        places = np.sort(order) if m.root.op in ("ArgMax", "ArgMin") else order
        index = g.constant("witness/channels", places, np.int64)
        whole = g.node("Gather", [m.root.inputs[0], index], {"axis": state.axis}, name="witness").outputs[0]
        return g.node(m.root.op, [whole, *m.root.inputs[1:]], m.root.attrs, name="witness").outputs[0]
