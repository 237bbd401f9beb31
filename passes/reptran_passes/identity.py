"""An Identity hides a shared initializer, or a pattern's middle."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("identity", effect=preserves(), order=11)
class DropIdentity:
    """An Identity goes; its readers read what it reads."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Identity(x)

    def check(m: Match) -> None:
        m.require(not m.graph.is_output(m.root.outputs[0]), "names a graph output")

    def rewrite(m: Match, g: Graph) -> Tensor:
        return m.x  # type: ignore[no-any-return]
