"""`--optimize`: binarisations of channels-last exporters go back to where their convolutions are, channels first."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import again, binarised
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_pad import constant_pads
from reptran_passes.transposed_sign import permutation


@rule("transposed-pad", effect=preserves(), phase="lower", order=2)
class TransposedPad:
    """`Transpose(Pad(sign(Transpose(x))))` becomes `Pad(sign(x))` (only with --optimize)."""

    def pattern(p: Any) -> Any:
        return p.Transpose(p.Pad(name="pad"))

    def check(m: Match) -> None:
        _first(m)

    def rewrite(m: Match, g: Graph) -> Tensor:
        first, signs = _first(m), m.pad.inputs[0]
        pads, value = constant_pads(m, m.pad)
        back = permutation(m.root, len(pads) // 2)
        turned = [pads[side + axis] for side in (0, len(back)) for axis in back]
        bare = again(g, signs, first.outputs[0], first.inputs[0])
        m.keep_name(signs, bare)
        if m.pad.input(1) is None:
            return g.node("Pad", [bare], {**m.pad.attrs, "pads": turned}, like=m.pad).outputs[0]
        stored = g.constant(f"{m.pad.name}/pads", turned, np.int64)
        filling = g.constant(f"{m.pad.name}/value", np.asarray(value, np.float32))
        return g.node("Pad", [bare, stored, filling], m.pad.attrs, like=m.pad).outputs[0]


def _first(m: Match) -> Node:
    """The Transpose in front of the binarisation that is padded; the match is turned down where that is none."""
    signs = m.pad.inputs[0]
    pads, _ = constant_pads(m, m.pad)
    turned = binarised(signs)
    m.require(turned is not None, "pads no binarisation")
    m.require(len(signs.outputs) == len(m.pad.outputs[0].outputs) == 1, "something else reads it, too")
    assert turned is not None, "asked for above"
    m.require(not isinstance(turned, Constant) and bool(turned.inputs), "its binarisation reads an input", turned)
    first: Node = turned.inputs[0]
    m.require(first.op_type == "Transpose", "its binarisation reads no Transpose", turned)
    m.require(m.facts.of(signs).dtype == np.float32, "is not of float32")
    rank = len(pads) // 2
    there, back = permutation(first, rank), permutation(m.root, rank)
    m.require([there[axis] for axis in back] == list(range(rank)), "does not undo the other Transpose")
    return first
