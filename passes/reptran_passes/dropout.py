"""Dropout does nothing in inference."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("dropout", effect=preserves(), order=12)
class DropDropout:
    """A Dropout that is not told to train goes; its readers read what it reads."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Dropout(x, p.any("ratio", optional=True), p.any("training", optional=True))

    def check(m: Match) -> None:
        training = m.get("training")
        value = None if training is None else m.facts.value(training)
        m.require(training is None or (value is not None and not value.any()), "may run in training mode")
        m.require(not any(out.outputs or m.graph.is_output(out) for out in m.root.outputs[1:]), "its mask is read")
        m.require(not m.graph.is_output(m.root.outputs[0]), "names a graph output")

    def rewrite(m: Match, g: Graph) -> Tensor:
        return m.x  # type: ignore[no-any-return]
