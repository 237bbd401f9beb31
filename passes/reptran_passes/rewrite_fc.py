"""THEORY rule 6, rewrite FC: the classifier reads all copies, or their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import again, averages, binarised, groups
from reptran_compiler.rewriting import Match, rule

Array = NDArray[Any]


def _position(m: Match) -> int:
    return int(m.context.roles.layers[m.layer.name])


@rule("fold-fc", effect=averages(), phase="replicate", order=20)
class FoldFC:
    """`fold`: the classifier reads the mean of the copies with the weights that it had."""

    def pattern(p: Any) -> Any:
        return p.op("Conv Gemm MatMul", name="layer")

    def check(m: Match) -> None:
        m.require(m.context.role(m.layer) == "classifier", "is no classifier")
        m.require(m.context.wide(m.context.reads(m.layer)) is not None, "reads a narrow map")
        m.require(m.context.plan.fc == "fold" or _cannot_widen(m) is not None, "the classifier is widened")

    def rewrite(m: Match, g: Graph) -> Tensor:
        inputs = list(m.layer.inputs)
        place = 1 - _position(m)
        # The mean of the signs, not the sign of a mean: what the classifier reads is averaged.
        reads = inputs[place]
        signs = binarised(reads) is not None
        inputs[place] = m.context.mean_behind(g, reads, m.context.wide(reads)) if signs else m.context.mean(g, reads)
        return g.node(m.layer.op, inputs, m.layer.attrs, like=m.layer).outputs[0]


@rule("rewrite-fc", effect=averages(), phase="replicate", order=21)
class RewriteFC:
    """`widen`: `W' = [W | W | ... | W] / beta`; a binary classifier keeps its +-1 and takes 1/beta behind it."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm MatMul", x, p.any("w"), p.any("b", optional=True), name="layer")

    def check(m: Match) -> None:
        m.require(m.context.role(m.layer) == "classifier", "is no classifier")
        m.require(m.context.wide(m.context.reads(m.layer)) is not None, "reads a narrow map")
        reason = _cannot_widen(m)
        m.require(reason is None, reason or "")

    def rewrite(m: Match, g: Graph) -> Tensor:
        copies, beta = m.context, m.context.beta
        latent = binarised(m.w)
        stored = m.w if latent is None else latent
        m.require(isinstance(stored, Constant), "its weights are computed", m.w)
        binary = m.layer.name in copies.plan.binary
        values = widened_columns(m, np.asarray(stored.values))
        values = values if binary else (values / beta).astype(values.dtype)
        wide = copies.stored(g, stored, ("fc", beta, binary), np.ascontiguousarray(values), "rep")
        weight = wide if latent is None else again(g, m.w, latent, wide)
        inputs = [m.x, weight] + ([] if m.get("b") is None else [m.b])
        out = g.node(m.layer.op, inputs, m.layer.attrs, like=m.layer).outputs[0]
        if not binary:
            return out
        share = g.constant(f"{m.layer.name}/share", np.asarray(1 / beta, m.facts.source(m.root.outputs[0]).dtype))
        return g.node("Mul", [out, share], name=f"{m.layer.name}/mean").outputs[0]


def widened_columns(m: Match, weight: Array) -> Array:
    """A classifier's weights, every column once for each copy, in the order in which the copies lie in x^."""
    state = m.context.wide(m.x)
    axis = 1 if m.layer.op == "Conv" or m.layer.attrs.get("transB", 0) else 0
    columns = np.empty(state.size * m.context.beta, np.int64)
    for places in state.order(m.context.beta):
        columns[places] = np.arange(state.size)
    taken: Array = np.take(weight, columns, axis=axis)
    return taken


def _cannot_widen(m: Match) -> str | None:
    """Why a classifier's weights cannot be widened; None where they can."""
    reads = m.context.reads(m.layer)
    if _position(m) == 0:
        return "its weights stand on the left"
    if groups(m.layer) > 1:
        return "it is grouped"
    if m.layer.op != "Conv" and len(m.context.shape(m.layer.inputs[1])) != 2:
        return "its weights are no matrix"
    if m.layer.attrs.get("transA", 0) or m.context.wide(reads).axis != m.context.contracted(m.layer):
        return "it does not contract the channel axis"
    return None
