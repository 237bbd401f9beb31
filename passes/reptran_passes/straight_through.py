"""What a straight-through estimator leaves in a file: arithmetic that adds what it takes away."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import again, binarised
from reptran_compiler.rewriting import Match, preserves, rule


def _binarisation(m: Match, g: Graph) -> Tensor:
    """The binarisation alone, its operators built anew; of stored signs a copy."""
    b: Tensor = m.b
    source = binarised(b)
    m.require(source is not None or m.facts.constant(b), "is no binarisation", b)
    shapes = [m.facts.source(t) for t in (b, m.root.outputs[0])]
    constant = m.facts.constant(m.root.outputs[0]) and shapes[0].shape == shapes[1].shape
    m.require(constant or m.context.same_shape(b, m.root.outputs[0]), "changes the shape")
    if isinstance(b, Constant) or source is None:
        return g.node("Identity", [b], name=f"{m.root.name}/signs").outputs[0]
    return again(g, b, source, source)


@rule("straight-through", effect=preserves(), order=30)
class StraightThrough:
    """`(b - p) + p` around a binarisation b becomes b, whatever p is."""

    def pattern(p: Any) -> Any:
        b, q = p.any("b"), p.any("q")
        return p.Add(p.Sub(b, q), q)

    rewrite = _binarisation


@rule("residue-of-zero", effect=preserves(), order=31)
class ResidueOfZero:
    """`(q - q) + b` around a binarisation b becomes b."""

    def pattern(p: Any) -> Any:
        q = p.any("q")
        return p.Add(p.Sub(q, q), p.any("b"))

    rewrite = _binarisation
