"""CastLike takes its type from a tensor whose type is known: it is a Cast."""

from __future__ import annotations

from typing import Any

from onnx import helper

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("cast-like", effect=preserves(), order=10)
class CastLike:
    """`CastLike(x, y)` becomes a Cast, so that what is constant does not seem to depend on a map."""

    def pattern(p: Any, x: Any) -> Any:
        return p.CastLike(x, p.any("like"))

    def rewrite(m: Match, g: Graph) -> Tensor:
        kind = helper.np_dtype_to_tensor_dtype(m.facts.source(m.like).dtype)
        return g.node("Cast", [m.x], {"to": kind}, like=m.root).outputs[0]
