"""THEORY rule 7: an operator that no rule carries reads the mean of the copies, and its output is tiled."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Graph
from reptran_compiler.replication import CannotReplicate, Wide, averages, read_outputs
from reptran_compiler.rewriting import Match, Tagged, rule

_SEQUENCES = ("SplitToSequence", "SequenceConstruct", "SequenceInsert")


@rule("boundary", effect=averages(), phase="replicate", order=90)
class Boundary:
    """An operator that cannot be carried reads the mean of the copies; its output is tiled into equal copies."""

    def pattern(p: Any) -> Any:
        return p.op("*", name="operator")

    def check(m: Match) -> None:
        wide = [t for t in m.root.inputs if m.context.wide(t) is not None]
        m.require(bool(wide) and m.context.role(m.root) in (None, "boundary"), "reads no wide map, or is a layer")

    def rewrite(m: Match, g: Graph) -> list[Tagged]:
        copies, root = m.context, m.root
        if root.op in _SEQUENCES:
            raise CannotReplicate(
                f"{root.op} {root.name!r} makes a sequence of a wide map, and its parts are not known: "
                "export the network with optimisation, which writes Split or Slice"
            )
        first = next(t for t in root.inputs if copies.wide(t) is not None)
        axis, rank = copies.wide(first).axis, copies.rank(first)
        inputs = [copies.mean(g, t) if t.name else None for t in root.inputs]
        node = g.node(root.op, inputs, root.attrs, like=root, outputs=len(root.outputs))
        made = []
        for old, new in zip(read_outputs(m), node.outputs, strict=False):
            at = axis if old.name and copies.rank(old) == rank else 1
            # A layer's channels are its filters, on whatever axis it summed.
            at = copies.channels(root) if copies.role(root) == "boundary" else at
            if not old.name or copies.rank(old) <= at:
                made.append(Tagged(new, None))
                continue
            if len({m.facts.source(old, case).shape[at] for case in range(len(m.facts.cases))}) > 1:
                raise CannotReplicate(
                    f"{root.op} {root.name!r} is no operator that carries copies, and axis {at} of its output, where "
                    "its input has channels, is as long as the batch: export the network with channels behind the batch"
                )
            tiled = copies.tiled(g, new, at, copies.beta, old.name, copies.rank(old))
            made.append(Tagged(tiled, Wide(at, copies.shape(old)[at])))
        return made
