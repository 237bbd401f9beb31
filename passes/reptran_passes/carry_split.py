"""Split: sizes times beta along the channels (copies mix there), each copy alone along other axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.replication import CARRIERS, Wide, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule


def _along(m: Match) -> int:
    return int(m.root.attrs.get("axis", 0)) % int(m.context.rank(m.root.inputs[0]))


@rule("carry-split-channels", effect=reparametrises(), phase="replicate", order=CARRIERS)
class SplitChannels:
    """Split along the channels: every size times beta."""

    def pattern(p: Any) -> Any:
        return p.Split()

    def check(m: Match) -> None:
        m.require(wide_operand(m, blocks=True).axis == _along(m), "is not along the channels")

    def rewrite(m: Match, g: Graph) -> list[Tagged]:
        axis = _along(m)
        sizes = [m.context.shape(out)[axis] for out in m.root.outputs]
        wide = [size * m.context.beta for size in sizes]
        attrs = {name: value for name, value in m.root.attrs.items() if name != "num_outputs"}
        inputs = list(m.root.inputs[:1])
        if g.opset >= 13:
            inputs.append(g.constant(f"{m.root.name}/sizes", wide, np.int64))
        else:
            attrs["split"] = wide
        made = rebuilt(m, g, inputs, attrs)
        return [Tagged(out, Wide(axis, size, 1, equal=False)) for out, size in zip(made, sizes, strict=True)]

    def witness(m: Match, g: Graph) -> list[Tensor]:
        axis, start, parts = _along(m), 0, []
        for out in m.root.outputs:
            stop = start + m.context.shape(out)[axis] * m.context.beta
            index = g.constant("witness/channels", np.arange(start, stop), np.int64)
            parts.append(g.node("Gather", [m.root.inputs[0], index], {"axis": axis}, name="witness").outputs[0])
            start = stop
        return parts


@rule("carry-split", effect=replicates(), phase="replicate", order=CARRIERS)
class Split:
    """Split along another axis: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Split()

    def check(m: Match) -> None:
        m.require(wide_operand(m, blocks=True).axis != _along(m), "is along the channels")

    def rewrite(m: Match, g: Graph) -> list[Tagged]:
        return [Tagged(out, wide_operand(m, blocks=True)) for out in m.root.outputs]
