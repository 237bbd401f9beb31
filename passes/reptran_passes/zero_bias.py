"""A bias of zeros that an exporter computes where the network has none."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Cost, Match, preserves, rule
from reptran_passes.no_bias import no_bias


@rule("zero-bias", effect=preserves(), cost=Cost(weights="==", macs="=="), order=39)
class DropZeroBias:
    """A bias that the file computes and that is zero goes; one that it stores is a parameter and stays."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm ConvTranspose", x, p.any("w"), p.any("b"), name="layer")

    def check(m: Match) -> None:
        m.require(not isinstance(m.b, Constant), "its bias is stored", m.b)
        m.require(m.facts.uniform(m.b) == 0.0, "its bias is not known to be zero", m.b)

    def rewrite(m: Match, g: Graph) -> Tensor:
        inputs = [m.x, m.w, *no_bias(g, m.layer.op, m.facts.source(m.w).dtype, m.layer.name)]
        return g.node(m.layer.op, inputs, m.layer.attrs, like=m.layer).outputs[0]
