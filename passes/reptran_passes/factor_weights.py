"""Binary weights in canonical form: signs in the layer, the magnitude of each filter and the bias behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import binarised, few_zeros, is_sign, sign_up
from reptran_compiler.rewriting import Cost, Facts, Match, preserves, rule
from reptran_passes.zero_bias import has_bias, no_bias

Array = NDArray[Any]

#: By how many steps of its type the magnitudes of one filter may differ: straight-through rounding leaves a few.
_ONE_MAGNITUDE = 16


@rule("factor-weights", effect=preserves(), cost=Cost(weights="==", macs="=="), order=40)
class FactorWeights:
    """`Conv(x, s*B) + b` of a binary layer becomes `s * Conv(x, B) + b`: sums of +-1 are exact, scales stay apart."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm MatMul", x, p.any("w"), p.any("b", optional=True), name="layer")

    def check(m: Match) -> None:
        roles = m.context.roles
        m.require(roles.layers.get(m.layer.name) == 1, "is no layer with its weights on the right")
        m.require(roles.is_inner(m.layer), "no other layer stands in front of it, or it is depthwise")
        m.require(m.context.reads_binary(m.layer), "does not read binarised maps of both signs", m.x)
        m.require(not m.layer.attrs.get("transA", 0), "is a Gemm with transA")
        m.require(m.get("b") is None or m.facts.constant(m.b), "its bias is computed from a map")

    def rewrite(m: Match, g: Graph) -> Tensor:
        latent, biased = binarised(m.w), has_bias(m.graph, m.layer)
        signs = isinstance(latent, Constant) and few_zeros(latent.values)
        m.require(biased or not signs, "is canonical already")
        weight = m.facts.value(m.w)
        canonical = isinstance(m.w, Constant) or isinstance(latent, Constant)
        done = canonical and not biased and weight.size and bool((np.abs(weight) == 1).all())
        m.require(not done, "is canonical already")
        scale = magnitudes(weight, _filter_axis(m.layer))
        m.require(scale is not None, "its weights have several magnitudes in one filter", m.w)
        assert scale is not None, "asked for above"
        ones = bool((scale == 1).all())
        m.require(not (ones and canonical and not biased), "is canonical already")
        attrs = {name: value for name, value in m.layer.attrs.items() if name != "beta"}
        inputs = [m.x, _signs(m.facts, g, m.w, weight), *no_bias(g, m.layer.op, weight.dtype, m.layer.name)]
        out = g.node(m.layer.op, inputs, attrs, like=m.layer).outputs[0]
        rank = len(m.facts.source(m.root.outputs[0]).shape)
        if not ones:
            factor = g.constant(f"{m.layer.name}/scale", along_channels(scale, m.layer, rank))
            out = g.node("Mul", [out, factor], name=f"{m.layer.name}/Mul").outputs[0]
        return add_bias(m, g, out) if biased else out


def add_bias(m: Match, g: Graph, out: Tensor) -> Tensor:
    """A layer's bias `m.b` as an Add behind it."""
    fact = m.facts.source(m.root.outputs[0])
    bias = m.facts.value(m.b)
    if m.layer.op == "Gemm":
        bias = bias * np.asarray(m.layer.attrs.get("beta", 1.0), bias.dtype)
        filters = fact.shape[1]
        m.require(bias.size in (1, filters) and bias.shape[-1:] in ((), (1,), (filters,)), "its bias is a map")
        bias = np.broadcast_to(bias.reshape(-1), (filters,))
    stored = g.constant(f"{m.layer.name}/bias", along_channels(bias, m.layer, len(fact.shape)))
    return g.node("Add", [out, stored], name=f"{m.layer.name}/Add").outputs[0]


def along_channels(values: Array, layer: Node, rank: int) -> Array:
    """One number a channel, shaped to broadcast over a layer's output."""
    return values.reshape([1, -1, *[1] * (rank - 2)] if layer.op == "Conv" else [1] * (rank - 1) + [-1])


def magnitudes(weight: Array, axis: int) -> Array | None:
    """One positive magnitude per filter, or None where the weights are not binary.

    Args:
        weight: the weights.
        axis: the filters' axis.
    """
    rows = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1))
    if not few_zeros(rows):
        return None
    top = rows.max(axis=1, initial=0.0)
    near = np.abs(rows - top[:, None]) <= _ONE_MAGNITUDE * np.finfo(weight.dtype).eps * top[:, None]
    if not bool((near | (rows == 0)).all()) or not bool((top > 0).all()):
        return None
    middle = rows.sum(axis=1, dtype=np.float64) / np.count_nonzero(rows, axis=1)
    close = np.abs(middle - 1) <= np.finfo(weight.dtype).eps
    found: Array = np.where(close, 1, middle).astype(weight.dtype)
    return found


def _filter_axis(layer: Node) -> int:
    return 0 if layer.op == "Conv" or layer.attrs.get("transB", 0) else -1


def _signs(facts: Facts, g: Graph, tensor: Tensor, weight: Array) -> Tensor:
    """A binary layer's signs: the binarisation of the latent tensor that the file computes them from, or stored."""
    signs = np.sign(weight)
    for each in _above(tensor):
        latent = binarised(each)
        value = None if latent is None else facts.value(latent)
        if latent is None or value is None or value.shape != weight.shape:
            continue
        up = not is_sign(each)
        found = np.where(value >= 0, 1, -1) if up else np.sign(value)
        if np.array_equal(found, signs):
            kept = latent if isinstance(latent, Constant) else g.constant(f"{latent.name}/value", value)
        elif np.array_equal(-found, signs) and not (up and (value == 0).any()):
            kept = g.constant(f"{latent.name}/negated", -value)
        else:
            continue
        if up and (value == 0).any():
            return sign_up(g, kept, value.dtype)
        return g.node("Sign", [kept], name=f"{kept.name}/Sign").outputs[0]
    if isinstance(tensor, Constant) and np.array_equal(weight, signs):
        return tensor
    return g.constant(f"{tensor.name}/sign", signs.astype(weight.dtype))


def _above(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor and those that it is computed from, nearest first."""
    queue, seen = [tensor], {id(tensor)}
    for here in queue:
        yield here
        if isinstance(here, Constant):
            continue
        for read in (t for node in here.inputs for t in node.inputs):
            if id(read) not in seen:
                seen.add(id(read))
                queue.append(read)
