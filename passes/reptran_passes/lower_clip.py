"""`--optimize float`: bounds of a stream that stay in onnxruntime's blocked layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import depthwise, require_blocks

#: Operators that onnxruntime computes in the blocked layout.
_BLOCKED = ("Add", "AveragePool", "Concat", "Conv", "GlobalAveragePool", "MaxPool")


@rule("clip-by-depthwise", effect=preserves(), phase="lower", order=55)
class ClipByDepthwise:
    """`Clip(x, a, b)` gets a depthwise 1x1 convolution by 1 in front (only with --optimize).

    onnxruntime fuses the two, and has no Clip of its own in the blocked layout.
    """

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Clip", x, p.any("low", optional=True), p.any("high", optional=True))

    def check(m: Match) -> None:
        require_blocks(m, m.x)
        bounds = [each for each in m.root.inputs[1:] if each.name]
        m.require(all(isinstance(each, Constant) for each in bounds), "has bounds that are computed")
        m.require(bool(m.x.inputs) and m.x.inputs[0].op_type in _BLOCKED, "reads what is in no blocks")
        fused = m.x.inputs[0].op_type == "Conv" and len(m.x.outputs) == 1 and not m.graph.is_output(m.x)
        m.require(not fused, "is fused with the convolution in front when the model is loaded")

    def rewrite(m: Match, g: Graph) -> Tensor:
        channels = m.facts.of(m.x).shape[1]
        same = depthwise(g, m.x, m.root.name, np.ones(channels))
        rest = [each if each.name else None for each in m.root.inputs[1:]]
        return g.node("Clip", [same, *rest], m.root.attrs, like=m.root).outputs[0]
