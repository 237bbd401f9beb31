"""A depthwise convolution is a per-channel operator, binary or not, with any multiplier."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import Copies, Wide, again, binarised, replicates
from reptran_compiler.rewriting import Match, Tagged, rule


@rule("widen-depthwise", effect=replicates(), phase="replicate", order=14)
class WidenDepthwise:
    """Each copy of a depthwise convolution's channels has its own copy of the filters."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Conv(x, p.any("w"), p.any("b", optional=True), name="layer")

    def check(m: Match) -> None:
        state = m.context.wide(m.x)
        m.require(m.context.role(m.layer) == "depthwise" and state is not None, "is not depthwise and wide")
        m.require(state.axis == 1 and state.outer == 1, "its channels are not on axis 1")

    def rewrite(m: Match, g: Graph) -> Tagged:
        copies = m.context
        inputs = [m.x, _repeated(copies, g, m.w)]
        if m.get("b") is not None:
            inputs.append(copies.repeated(g, m.b, 0))
        attrs = {**m.layer.attrs, "group": int(m.layer.attrs["group"]) * copies.beta}
        out = g.node("Conv", inputs, attrs, like=m.layer).outputs[0]
        return Tagged(out, Wide(1, copies.shape(m.root.outputs[0])[1], 1, copies.wide(m.x).equal))


def _repeated(copies: Copies, g: Graph, weight: Tensor) -> Tensor:
    """The filters repeated: stored ones, or the latent ones behind their binarisation."""
    latent = binarised(weight)
    if latent is None or not isinstance(latent, Constant):
        return copies.repeated(g, weight, 0)
    return again(g, weight, latent, copies.repeated(g, latent, 0))
