"""Constants that the file computes."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import binarised
from reptran_compiler.rewriting import Match, preserves, rule


@rule("fold-constant", effect=preserves(), order=70)
class FoldConstant:
    """What is computed from stored tensors alone is stored; the binarisation of a latent weight stays."""

    def pattern(p: Any) -> Any:
        return p.op("*")

    def check(m: Match) -> None:
        out = m.root.outputs[0]
        m.require(len(m.root.outputs) == 1 and m.facts.constant(out), "does not depend on stored tensors alone")
        m.require(not m.graph.is_output(out), "is a graph output", out)
        m.require(binarised(out) is None, "binarises a latent weight")
        made = [tensor for reader in out.outputs for tensor in reader.outputs]
        outer = any(not m.facts.constant(tensor) or binarised(tensor) is not None for tensor in made)
        m.require(outer, "is only read by what is stored itself")

    def rewrite(m: Match, g: Graph) -> Tensor:
        out = m.root.outputs[0]
        return g.constant(f"{out.name}/value", m.facts.value(out))
