"""`--optimize`: PRelu in cheaper forms. onnxruntime spends some 4 ns an element on it, and a tenth on the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import depthwise, numbers, require_blocks, stored_channels
from reptran_passes.merge_affine import per_channel


@rule("prelu-by-relu", effect=preserves(), phase="lower", order=30)
class PReluByRelu:
    """`PRelu(x, a)` becomes `a x + Relu((1 - a) x)`, a sign apart where a > 1, in depthwise convolutions
    (only with --optimize float)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.PRelu(x, p.const("a", test=per_channel))

    def check(m: Match) -> None:
        require_blocks(m, m.x)
        numbers(m, m.a, m.x)

    def rewrite(m: Match, g: Graph) -> Tensor:
        a, name = numbers(m, m.a, m.x), m.root.name
        bent = g.node("Relu", [depthwise(g, m.x, f"{name}/bend", np.abs(1 - a))], name=f"{name}/Relu").outputs[0]
        if (a > 1).any():
            bent = depthwise(g, bent, f"{name}/turn", np.where(a > 1, -1.0, 1.0))
        straight = depthwise(g, m.x, f"{name}/slope", a)
        return g.node("Add", [straight, bent], like=m.root).outputs[0]


@rule("prelu-by-max", effect=preserves(), phase="lower", order=31)
class PReluByMax:
    """`PRelu(x, a)` becomes `Max(x, a x)`, or Min where no slope is below 1 (only with --optimize)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.PRelu(x, p.const("a", test=per_channel))

    def check(m: Match) -> None:
        a = numbers(m, m.a, m.x)
        m.require(bool((a <= 1).all() or (a >= 1).all()), "has slopes above 1 and below")
        m.require(m.graph.opset >= 8, "needs opset 8")

    def rewrite(m: Match, g: Graph) -> Tensor:
        a = numbers(m, m.a, m.x)
        slope = stored_channels(g, f"{m.root.name}/slope", a)
        sloped = g.node("Mul", [m.x, slope], name=f"{m.root.name}/Mul").outputs[0]
        return g.node("Max" if (a <= 1).all() else "Min", [m.x, sloped], like=m.root).outputs[0]
