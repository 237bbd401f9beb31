"""Operators that move, pick or normalise along other axes than the channels."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph
from reptran_compiler.replication import CARRIERS, Wide, as_ints, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, rule
from reptran_passes.carry_reshape import widened_target


@rule("carry-softmax", effect=replicates(), phase="replicate", order=CARRIERS)
class Softmax:
    """Softmax, LogSoftmax and Hardmax over other axes than the channels: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.op("Softmax LogSoftmax Hardmax")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, modern = wide_operand(m), g.opset >= 13
        axis = int(m.root.attrs.get("axis", -1 if modern else 1)) % m.context.rank(m.root.inputs[0])
        m.require(axis != state.axis if modern else axis > state.axis, "normalises over the channels")
        return Tagged(m.root.outputs[0], state)


@rule("carry-gather", effect=replicates(), phase="replicate", order=CARRIERS)
class Gather:
    """Gather along other axes than the channels: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Gather()

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, axis = wide_operand(m), int(m.root.attrs.get("axis", 0)) % m.context.rank(m.root.inputs[0])
        m.require(axis != state.axis, "picks channels")
        shift = m.context.rank(m.root.inputs[1]) - 1 if axis < state.axis else 0
        return Tagged(m.root.outputs[0], Wide(state.axis + shift, state.size, state.outer, state.equal))


@rule("carry-tile", effect=replicates(), phase="replicate", order=CARRIERS)
class Tile:
    """Tile along other axes than the channels: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Tile()

    def rewrite(m: Match, g: Graph) -> Tagged:
        state = wide_operand(m)
        repeats = m.root.inputs[1]
        m.require(isinstance(repeats, Constant) and as_ints(repeats.values)[state.axis] == 1, "may repeat channels")
        return Tagged(m.root.outputs[0], state)


@rule("carry-expand", effect=replicates(), phase="replicate", order=CARRIERS)
class Expand:
    """Expand of other axes than the channels: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Expand()

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, out, target = wide_operand(m), m.root.outputs[0], m.root.inputs[1]
        axis = state.axis + m.context.rank(out) - m.context.rank(m.root.inputs[0])
        m.require(m.context.shape(out)[axis] == state.size, "repeats channels")
        place = axis - (m.context.rank(out) - m.context.shape(target)[0])
        inputs = list(m.root.inputs)
        if place >= 0 and not (isinstance(target, Constant) and as_ints(target.values)[place] == 1):
            inputs[1] = widened_target(m, g, target, place)
        return Tagged(rebuilt(m, g, inputs)[0], Wide(axis, state.size, state.outer, state.equal))


@rule("carry-quantization", effect=replicates(), phase="replicate", order=CARRIERS)
class Quantization:
    """QuantizeLinear and DequantizeLinear: scales of channels are repeated, those along another axis are not."""

    def pattern(p: Any) -> Any:
        return p.op("QuantizeLinear DequantizeLinear")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, inputs = wide_operand(m), list(m.root.inputs)
        axis = int(m.root.attrs.get("axis", 1)) % max(1, m.context.rank(inputs[0]))
        m.require(not m.root.attrs.get("block_size", 0), "has a scale for each block")
        for place, tensor in enumerate(inputs[1:], 1):
            if axis == state.axis and tensor.name and m.context.shape(tensor) not in ((), (1,)):
                m.require(state.outer == 1, "the copies lie interleaved", tensor)
                inputs[place] = m.context.repeated(g, tensor, 0)
        return Tagged(rebuilt(m, g, inputs)[0], state)
