"""`--optimize`: padding with +1 or -1 in front of a binary layer, as channels-last frameworks write it, becomes the
layer's own.

`conv(pad(s, c))` is `conv(s - c) + c * sum(w)`, for a convolution that pads with zeros. The sums are integers: no
rounding comes in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import binarised
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.carry_pad import pads_of


def constant_pads(m: Match, node: Node) -> tuple[list[int], float]:
    """The pads, [starts, ends], of all axes of a Pad with a constant, and the constant.

    The match is turned down where something else is padded with, or where pads or value are computed.
    """
    m.require(node.attrs.get("mode", "constant") == "constant", "pads with others' values", node)
    pads = pads_of(m, node, len(m.facts.of(node.inputs[0]).shape))
    if node.input(1) is None:
        return pads, float(node.attrs.get("value", 0.0))
    value = node.input(2)
    m.require(value is None or isinstance(value, Constant), "its value is computed", node)
    return pads, 0.0 if value is None else float(value.values.reshape(-1)[0])


@rule("pad-by-layer", effect=preserves(), phase="lower", order=4)
class PadByLayer:
    """Padded signs become the zero padding of the convolution that reads them, and a bias (only with --optimize)."""

    def pattern(p: Any) -> Any:
        return p.Conv(p.Pad(name="pad"), p.const("w"))

    def check(m: Match) -> None:
        signs = m.pad.inputs[0]
        m.require(binarised(signs) is not None, "pads no binarisation", m.pad)
        m.require(m.facts.of(signs).dtype == np.float32, "is not of float32", m.pad)
        pads, value = constant_pads(m, m.pad)
        m.require(value in (-1.0, 0.0, 1.0), "pads with something else than signs or zeros", m.pad)
        m.require(min(pads) >= 0, "crops", m.pad)
        half = len(pads) // 2
        m.require(not any((*pads[:2], *pads[half : half + 2])), "pads the batch or channels", m.pad)
        m.require(m.root.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"), "chooses its padding itself")
        m.require(not any(m.root.attrs.get("pads", ())), "pads, too")
        m.require(bool(np.isin(m.w.values, (-1, 0, 1)).all()), "has weights that are no signs")

    def rewrite(m: Match, g: Graph) -> Tensor:
        pads, value = constant_pads(m, m.pad)
        half = len(pads) // 2
        attrs = {name: given for name, given in m.root.attrs.items() if name != "auto_pad"}
        attrs["pads"] = [*pads[2:half], *pads[half + 2 :]]
        inputs = [m.pad.inputs[0], m.w]
        if value:
            lower = g.constant(f"{m.pad.name}/lower", np.asarray(-value, np.float32))
            inputs[0] = g.node("Add", [inputs[0], lower], name=f"{m.pad.name}/Add").outputs[0]
            sums = value * m.w.values.reshape(m.w.shape[0], -1).sum(axis=1, dtype=np.float64)
            inputs.append(g.constant(f"{m.root.name}/padding", sums.astype(np.float32)))
        return g.node("Conv", inputs, attrs, like=m.root).outputs[0]
