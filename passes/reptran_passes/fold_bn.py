"""THEORY rule 4: statistics belong to the narrow channel, and nothing of them needs the wide width."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule


@rule("fold-bn", effect=preserves(), phase="finish", order=10)
class FoldBatchNorm:
    """An inference-mode BatchNormalization becomes one scale and one offset per channel (not with --bn keep)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.BatchNormalization(x, *p.consts("scale bias mean var"), name="bn")

    def check(m: Match) -> None:
        training = bool(m.bn.attrs.get("training_mode", 0))
        m.require(not training, "runs in training mode: it is no affine (--bn keep carries it)")
        used = [out for out in m.bn.outputs[1:] if out.outputs or m.graph.is_output(out)]
        m.require(not used, "its statistics are read")
        m.require(m.graph.opset >= 7, "may run in training mode before opset 7")

    def rewrite(m: Match, g: Graph) -> Tensor:
        scale, bias, mean, var = (np.asarray(t.values, np.float64) for t in (m.scale, m.bias, m.mean, m.var))
        factor = scale / np.sqrt(var + m.bn.attrs.get("epsilon", 1e-5))
        x = m.facts.of(m.x)
        shape = [1, -1, *[1] * (x.rank - 2)]
        a = g.constant(f"{m.bn.name}/scale", factor.reshape(shape).astype(x.dtype))
        b = g.constant(f"{m.bn.name}/offset", (bias - mean * factor).reshape(shape).astype(x.dtype))
        product = g.node("Mul", [m.x, a], name=f"{m.bn.name}/Mul").outputs[0]
        return g.node("Add", [product, b], like=m.bn).outputs[0]
