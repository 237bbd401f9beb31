"""THEORY rule 8, scope `layer`: a RepConv between maps of the source's width."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import Wide, groups
from reptran_compiler.rewriting import Cost, Match, reparametrises, rule
from reptran_passes.replicate_input import channels, rearranged, sum_of_blocks
from reptran_passes.zero_bias import has_bias


@rule("drop-in", effect=reparametrises(), cost=Cost(weights="==", macs="=="), phase="replicate", order=13)
class DropIn:
    """x tiled beta times, `Conv(x^; W')`, y' tiled beta times: equal to the sum over r of `Conv(x; W(r))`, tiled."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm MatMul", x, p.any("w"), p.any("b", optional=True), name="layer")

    def check(m: Match) -> None:
        m.require(m.context.plan.scope == "layer", "scope is network")
        m.require(m.context.role(m.layer) == "repconv", f"is no RepConv but {m.context.role(m.layer) or 'no layer'}")

        m.require(not has_bias(m.graph, m.layer), "has a bias that is no operator behind it")

    def rewrite(m: Match, g: Graph) -> Tensor:
        copies, rank = m.context, m.context.rank(m.root.outputs[0])
        reads = copies.tiled(g, m.x, copies.contracted(m.layer), copies.beta, f"{m.layer.name}/in")
        weight = rearranged(copies, g, m.layer)
        inputs = [reads, weight, *m.layer.inputs[2:]]
        made = g.node(m.layer.op, inputs, m.layer.attrs, like=m.layer).outputs[0]
        return copies.tiled(g, made, copies.channels(m.layer), copies.beta, m.layer.name, rank)  # type: ignore[no-any-return]

    def witness(m: Match, g: Graph) -> Tensor:
        copies, axis = m.context, m.context.contracted(m.layer)
        size = copies.shape(m.x)[axis]
        order = Wide(axis, size, groups(m.layer)).order(copies.beta)
        blocks = [channels(g, m.x, places % size, axis) for places in order]
        narrow = sum_of_blocks(g, m.layer, blocks, m.facts.value(m.w), copies.beta)
        axis = copies.channels(m.layer)
        return g.node("Concat", [narrow] * copies.beta, {"axis": axis}, name="witness").outputs[0]
