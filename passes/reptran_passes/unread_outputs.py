"""Outputs that an exporter names and nothing reads."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("unread-indices", effect=preserves(), order=12)
class DropIndices:
    """A MaxPool gives no indices where nothing reads them: with them it would number the elements of all channels."""

    def pattern(p: Any) -> Any:
        return p.MaxPool(name="pool")

    def check(m: Match) -> None:
        more = m.pool.outputs[1:]
        m.require(bool(more), "gives no indices")
        m.require(not any(out.outputs or m.graph.is_output(out) for out in more), "its indices are read")

    def rewrite(m: Match, g: Graph) -> Tensor:
        attrs = {name: value for name, value in m.pool.attrs.items() if name != "storage_order"}
        return g.node("MaxPool", m.pool.inputs, attrs, like=m.pool).outputs[0]
