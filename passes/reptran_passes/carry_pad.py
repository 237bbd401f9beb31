"""Pad: channels get beta times the pads with the same value (copies mix there), other axes what they had."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import CARRIERS, Wide, as_ints, rebuilt, replicates, wide_operand
from reptran_compiler.rewriting import Match, Tagged, reparametrises, rule


def pads_of(m: Match, node: Node, rank: int) -> list[int]:
    """Pads of all axes, [starts, ends], in either spelling (attribute before opset 11, input from then on)."""
    given = node.input(1)
    if given is None:
        return [int(value) for value in node.attrs["pads"]]
    m.require(isinstance(given, Constant), "its pads are computed", given)
    axes = node.input(3)
    if axes is None:
        return as_ints(given.values)
    m.require(isinstance(axes, Constant), "its axes are computed", axes)
    values = as_ints(given.values)
    pads = [0] * (2 * rank)
    for place, axis in enumerate(as_ints(axes.values)):
        pads[axis % rank], pads[axis % rank + rank] = values[place], values[place + len(values) // 2]
    return pads


def _pads(m: Match) -> list[int]:
    return pads_of(m, m.root, m.context.rank(m.root.inputs[0]))


def _on_channels(m: Match) -> bool:
    axis, pads = wide_operand(m, blocks=True).axis, _pads(m)
    return bool(pads[axis] or pads[axis + len(pads) // 2])


@rule("carry-pad-channels", effect=reparametrises(), phase="replicate", order=CARRIERS)
class PadChannels:
    """Pad of channels with a constant: beta times the pads."""

    def pattern(p: Any) -> Any:
        return p.Pad()

    def check(m: Match) -> None:
        m.require(_on_channels(m), "does not pad channels")
        m.require(m.root.attrs.get("mode", "constant") == "constant", "pads channels with others' values")

    def rewrite(m: Match, g: Graph) -> Tagged:
        state, pads, beta, root = wide_operand(m, blocks=True), _pads(m), m.context.beta, m.root
        low, high = pads[state.axis], pads[state.axis + len(pads) // 2]
        wide = list(pads)
        wide[state.axis], wide[state.axis + len(pads) // 2] = low * beta, high * beta
        if root.input(1) is None:
            made = rebuilt(m, g, root.inputs, {**root.attrs, "pads": wide})
        else:
            stored = g.constant(f"{root.name}/pads", wide, np.int64)
            made = rebuilt(m, g, [root.inputs[0], stored, *root.inputs[2:3]])
        return Tagged(made[0], Wide(state.axis, state.size + low + high, 1, equal=False))

    def witness(m: Match, g: Graph) -> Tensor:
        """The narrow pads, applied beta times."""
        tensor = m.root.inputs[0]
        pads, axis = _pads(m), wide_operand(m, blocks=True).axis
        half = len(pads) // 2
        for turn in range(m.context.beta):
            some = [value if turn == 0 or place % half == axis else 0 for place, value in enumerate(pads)]
            if m.root.input(1) is None:
                tensor = g.node("Pad", [tensor], {**m.root.attrs, "pads": some}, name="witness").outputs[0]
            else:
                stored = g.constant("witness/pads", some, np.int64)
                value = [t if t.name else None for t in m.root.inputs[2:3]]
                tensor = g.node("Pad", [tensor, stored, *value], m.root.attrs, name="witness").outputs[0]
        return tensor


@rule("carry-pad", effect=replicates(), phase="replicate", order=CARRIERS)
class Pad:
    """Pad of other axes: each copy alone."""

    def pattern(p: Any) -> Any:
        return p.Pad()

    def check(m: Match) -> None:
        m.require(not _on_channels(m), "pads channels")

    def rewrite(m: Match, g: Graph) -> Tagged:
        return Tagged(m.root.outputs[0], wide_operand(m, blocks=True))
