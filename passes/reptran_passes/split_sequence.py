"""Parts of a sequence that a tensor was split into (dynamo's `chunk` and `split` without optimisation)."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("split-sequence", effect=preserves(), order=15)
class SplitSequence:
    """`SequenceAt(SplitToSequence(x, sizes), i)` becomes the Slice of x that it is."""

    def pattern(p: Any) -> Any:
        return p.SequenceAt(p.any("parts"), p.any("place"))

    def check(m: Match) -> None:
        m.require(bool(m.parts.inputs), "is no sequence of parts", m.parts)
        maker = m.parts.inputs[0]
        m.require(maker.op_type == "SplitToSequence", "is no sequence of parts", m.parts)
        m.require(maker.attrs.get("keepdims", 1) != 0 or maker.input(1) is not None, "its parts lose an axis", maker)
        m.require(m.facts.constant(m.place), "its place is computed", m.place)
        m.require(m.graph.opset >= 11, "needs opset 11")

    def rewrite(m: Match, g: Graph) -> Tensor:
        maker = m.parts.inputs[0]
        x, sizes = maker.inputs[0], maker.input(1)
        axis = int(maker.attrs.get("axis", 0)) % len(m.facts.source(x).shape)
        shape = m.context.shape(x)
        m.require(shape is not None and shape[axis].constant is not None, "the axis that is split is dynamic", maker)
        length = int(shape[axis].constant)
        given = np.ones((), np.int64) if sizes is None else m.facts.value(sizes)
        given = m.context.fixed(sizes) if given is None and sizes is not None else given
        m.require(given is not None, "its sizes are computed", maker)
        if given.ndim == 0:
            bounds = [*range(0, length, int(given)), length]
        else:
            bounds = [0, *(int(end) for end in np.cumsum(given))]
        place = int(np.asarray(m.facts.value(m.place)).reshape(-1)[0])
        place += len(bounds) - 1 if place < 0 else 0
        m.require(0 <= place < len(bounds) - 1, "its place is outside the sequence", m.place)
        hint = m.root.name
        numbers = [("start", bounds[place]), ("end", bounds[place + 1]), ("axis", axis)]
        stored = [g.constant(f"{hint}/{name}", [value], np.int64) for name, value in numbers]
        return g.node("Slice", [x, *stored], like=m.root).outputs[0]
