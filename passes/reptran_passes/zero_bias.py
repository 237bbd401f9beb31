"""A bias of zeros that an exporter computes, or that a Gemm before opset 11 has to have, where the network has none."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting import Cost, Match, preserves, rule

#: Before this opset a Gemm is written with a bias: of one that has none, with a single stored zero.
_OPTIONAL_SINCE = 11


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


def no_bias(g: Graph, op: str, dtype: Any, hint: str) -> list[Tensor]:
    """What a layer reads behind its weights where it has no bias.

    Args:
        g: the graph.
        op: the layer's operator.
        dtype: of its weights.
        hint: what the zero's name begins with.
    """
    if op != "Gemm" or g.opset >= _OPTIONAL_SINCE:
        return []
    return [g.constant(f"{hint}/no bias", np.zeros(1, dtype))]


def has_bias(g: Graph, layer: Node) -> bool:
    """Whether a layer reads a bias that is not the zero of `no_bias`."""
    bias = layer.input(2) if layer.op in ("Conv", "Gemm") else None
    written = layer.op == "Gemm" and g.opset < _OPTIONAL_SINCE
    if not written or not isinstance(bias, Constant):
        return bias is not None
    return tuple(bias.shape) != (1,) or bool(bias.values.any())
