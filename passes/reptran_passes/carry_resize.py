"""Resize over space."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph
from reptran_compiler.replication import CARRIERS, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, rule
from reptran_passes.carry_reshape import widened_target


@rule("carry-resize", effect=replicates(), phase="replicate", order=CARRIERS)
class Resize:
    """Resize (Upsample before opset 10) of other axes than the channels; a target size is widened."""

    def pattern(p: Any) -> Any:
        return p.op("Resize Upsample")

    def check(m: Match) -> None:
        state = wide_operand(m, blocks=True)
        before, after = (m.context.shape(t)[state.axis] for t in (m.root.inputs[0], m.root.outputs[0]))
        m.require(before == after, "resizes the channel axis")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, root = m.context.wide(m.root.inputs[0]), m.root
        inputs, sizes = list(root.inputs), root.input(3)
        axes = [int(axis) for axis in root.attrs.get("axes", range(m.context.rank(inputs[0])))]
        if sizes is not None and state.axis in axes:
            inputs[3] = widened_target(m, g, sizes, axes.index(state.axis))
        return Tagged(rebuilt(m, g, inputs)[0], state)
