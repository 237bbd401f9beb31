"""THEORY rule 2, replicate output: what is distinct is repeated along the channels."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import Wide
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule


def _beside(g: Graph, tensor: Tensor, times: int, axis: int) -> Tensor:
    return g.node("Concat", [tensor] * times, {"axis": axis}, name="witness").outputs[0]


@rule("replicate-output", effect=reparametrises(), phase="replicate", order=11)
class ReplicateOutput:
    """A RepConv's Co/beta outputs are repeated beta^2 times: `y^ = Tile(y', beta^2)`."""

    def pattern(p: Any) -> Any:
        return p.op("Conv Gemm MatMul", name="layer")

    def check(m: Match) -> None:
        m.require(m.context.distinct(m.root.outputs[0]) is not None, "its output is not a RepConv's own")

    def rewrite(m: Match, g: Graph) -> Tagged:
        out = m.root.outputs[0]
        state = m.context.distinct(out)
        made = m.context.tiled(g, out, state.axis, m.context.beta**2, m.layer.name)
        return Tagged(made, Wide(state.axis, state.size))

    def witness(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        return _beside(g, out, m.context.beta**2, m.context.distinct(out).axis)


@rule("replicate-stem", effect=reparametrises(), phase="replicate", order=12)
class ReplicateStem:
    """The stem is computed once; its output, behind its BatchNormalization or bias, is repeated beta times."""

    def pattern(p: Any) -> Any:
        return p.op("*", name="end")

    def check(m: Match) -> None:
        m.require(m.context.ends_stem(m.root.outputs[0]), "ends no stem")

    def rewrite(m: Match, g: Graph) -> Tagged:
        out = m.root.outputs[0]
        axis = m.context.stem_axis(out)
        made = m.context.tiled(g, out, axis, m.context.beta, out.name)
        return Tagged(made, Wide(axis, m.context.shape(out)[axis]))

    def witness(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        return _beside(g, out, m.context.beta, m.context.stem_axis(out))
