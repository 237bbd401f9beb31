"""Exporters from channels-last frameworks leave binarisations between two Transposes that undo each other."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import again, binarised
from reptran_compiler.rewriting import Match, preserves, rule


@rule("transposed-sign", effect=preserves(), order=29)
class TransposedSign:
    """`Transpose(sign(Transpose(x)))` becomes `sign(x)` where the Transposes undo each other."""

    def pattern(p: Any) -> Any:
        return p.Transpose(p.any("b"))

    def rewrite(m: Match, g: Graph) -> Tensor:
        turned = binarised(m.b)
        m.require(turned is not None, "reads no binarisation", m.b)
        assert turned is not None, "asked for above"
        m.require(not isinstance(turned, Constant) and bool(turned.inputs), "its binarisation reads an input", turned)
        first: Node = turned.inputs[0]
        m.require(first.op_type == "Transpose", "its binarisation reads no Transpose", turned)
        rank = len(m.facts.source(turned).shape)
        there, back = permutation(first, rank), permutation(m.root, rank)
        m.require([there[axis] for axis in back] == list(range(rank)), "does not undo the other Transpose")
        return again(g, m.b, turned, first.inputs[0])


def permutation(node: Node, rank: int) -> list[int]:
    """The axes that a Transpose reads, in the order of its output; by default all of them reversed."""
    return list(node.attrs.get("perm") or range(rank - 1, -1, -1))
