"""`--optimize`: a scale per channel is applied behind a pooling, to fewer numbers, and with the scale that is there."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import scale_of, stored_channels
from reptran_passes.merge_affine import MergeScales

_MERGING: Any = MergeScales


@rule("sink-scales", effect=preserves(), phase="lower", order=5)
class SinkScales:
    """`pool(a x)` becomes `a pool(x)`, for positive scales where the pool takes the largest (only with --optimize)."""

    def pattern(p: Any) -> Any:
        return p.op("MaxPool GlobalMaxPool AveragePool GlobalAveragePool")

    def check(m: Match) -> None:
        m.require(len(m.root.outputs) == 1, "has several outputs")
        found = scale_of(m, m.root.inputs[0])
        if found is None:
            m.turn_down("reads no map with a scale")
        m.require("Max" not in m.root.op_type or bool((found[1] > 0).all()), "takes the largest of what is turned")

    def rewrite(m: Match, g: Graph) -> Tensor:
        found = scale_of(m, m.root.inputs[0])
        assert found is not None, "was checked"
        x, scale = found
        pooled = g.node(m.root.op, [x], m.root.attrs, name=f"{m.root.name}/{m.root.op_type}").outputs[0]
        return g.node("Mul", [pooled, stored_channels(g, f"{m.root.name}/scale", scale)], like=m.root).outputs[0]


#: Two scales side by side are one again, as they were in the result.
merge_sunk_scales = rule("merge-sunk-scales", effect=preserves(), phase="lower", order=7)(_MERGING.body)
