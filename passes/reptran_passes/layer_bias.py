"""The bias of an inner layer is a per-channel operator behind it: it stays with its channel."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Cost, Match, preserves, rule
from reptran_passes.factor_weights import add_bias
from reptran_passes.zero_bias import has_bias, no_bias


@rule("layer-bias", effect=preserves(), cost=Cost(weights="==", macs="=="), order=41)
class LayerBias:
    """`Conv(x, W, b)` of an inner real-valued layer becomes `Conv(x, W) + b`."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm", x, p.any("w"), p.any("b"), name="layer")

    def check(m: Match) -> None:
        roles = m.context.roles
        m.require(roles.layers.get(m.layer.name) == 1 and roles.is_inner(m.layer), "is no inner layer")
        m.require(has_bias(m.graph, m.layer), "has no bias")
        m.require(not roles.is_classifier(m.layer), "is a classifier, which keeps its bias")
        m.require(m.facts.constant(m.b), "its bias is computed from a map", m.b)
        m.require(not m.layer.attrs.get("transA", 0), "is a Gemm with transA")

    def rewrite(m: Match, g: Graph) -> Tensor:
        attrs = {name: value for name, value in m.layer.attrs.items() if name != "beta"}
        inputs = [m.x, m.w, *no_bias(g, m.layer.op, m.facts.source(m.w).dtype, m.layer.name)]
        return add_bias(m, g, g.node(m.layer.op, inputs, attrs, like=m.layer).outputs[0])
