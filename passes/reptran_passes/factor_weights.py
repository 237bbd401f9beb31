"""Binary weights in canonical form: signs in the layer, the magnitude of each filter and the bias behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import are_few, binarised, few_zeros, is_sign, sign_up
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
        signs = few_zeros(latent) if isinstance(latent, Constant) else isinstance(m.w, Constant) and m.w.are_signs
        m.require(biased or not signs, "is canonical already")
        canonical = isinstance(m.w, Constant) or isinstance(latent, Constant)
        held = isinstance(m.w, Constant) and m.w.reference is None and not biased and m.w.values.size
        m.require(not (held and bool((np.abs(m.w.values) == 1).all())), "is canonical already")
        form = binary_form(m.facts, m.w, _filter_axis(m.layer))
        m.require(form is not None, "its weights have several magnitudes in one filter", m.w)
        assert form is not None, "asked for above"
        scale = form.magnitudes
        ones = bool((scale == 1).all())
        m.require(not (ones and canonical and not biased), "is canonical already")
        attrs = {name: value for name, value in m.layer.attrs.items() if name != "beta"}
        inputs = [m.x, _signs(m.facts, g, m.w, form), *no_bias(g, m.layer.op, scale.dtype, m.layer.name)]
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


@dataclass
class Latent:
    """A binarisation that weights are computed with, and whether its signs are theirs.

    Attributes:
        tensor: what is binarised.
        up: whether the binarisation is +1 at 0.
        same, opposite: whether all weights have its signs; whether all have the opposite ones.
        zeros: how many elements of the tensor are 0, as far as it was seen.
    """

    tensor: Tensor
    up: bool
    same: bool = True
    opposite: bool = True
    zeros: int = 0

    @property
    def agrees(self) -> bool:
        """Whether its signs tell those of the weights."""
        return self.same or self.opposite

    def see(self, values: Array, weights: Array) -> None:
        """Compare with the signs of some weights."""
        if not self.agrees or not values.size:
            return
        products = values * weights
        if products.min() > 0:  # all signs are equal, and nothing is 0
            self.opposite = False
        elif products.max() < 0:
            self.same = False
        else:
            found, signs = np.where(values >= 0, 1, -1) if self.up else np.sign(values), np.sign(weights)
            self.same = self.same and bool(np.array_equal(found, signs))
            self.opposite = self.opposite and not self.same and bool(np.array_equal(-found, signs))
            self.zeros += int(np.count_nonzero(values == 0))


@dataclass(frozen=True)
class BinaryForm:
    """Binary weights: a magnitude for each filter, and where their signs come from.

    Attributes:
        magnitudes: one a filter, above 0.
        plain: whether the weights are their signs.
        latents: the binarisations that they are computed with, nearest first.
    """

    magnitudes: Array
    plain: bool
    latents: tuple[Latent, ...]


def binary_form(facts: Facts, tensor: Tensor, axis: int) -> BinaryForm | None:
    """The form of binary weights, which are looked at in blocks; None where they are not binary.

    Args:
        facts: what is known of the graph.
        tensor: the weights.
        axis: the filters' axis: the first one, or the last.
    """
    shape = facts.source(tensor).shape
    latents = list(_latents(facts, tensor, shape))
    weights = (tensor, *(each.tensor for each in latents))
    blocks = facts.together(*weights) if axis == 0 else iter([tuple(np.asarray(facts.value(each)) for each in weights)])
    found, plain, zeros = [], True, 0
    for weight, *values in blocks:
        rows = (weight if axis == 0 else np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1)
        scale = magnitudes(rows)
        zeros += int(np.count_nonzero(rows == 0))
        if scale is None or not are_few(zeros, math.prod(shape)):
            return None
        found.append(scale)
        plain = plain and bool((scale == 1).all()) and bool(np.array_equal(weight, np.sign(weight)))
        for latent, some in zip(latents, values, strict=True):
            latent.see(some, weight)
    for seen, number in ((tensor, zeros), *((each.tensor, each.zeros) for each in latents if each.agrees)):
        if isinstance(seen, Constant):
            seen.zeros = number  # which saves another look at it
    return BinaryForm(np.concatenate(found), plain, tuple(latents))


def magnitudes(weights: Array) -> Array | None:
    """One positive magnitude per row of weights, or None where a row has several; zeros have any.

    Args:
        weights: [filters, weights of a filter].
    """
    rows, step = np.abs(weights), np.finfo(weights.dtype).eps
    top, low = rows.max(axis=1, initial=0.0), rows.min(axis=1, initial=np.inf)
    zero = low == 0
    counts = np.full(len(rows), rows.shape[1])
    if zero.any():
        counts[zero] = np.count_nonzero(rows[zero], axis=1)
        low[zero] = np.where(rows[zero] == 0, np.inf, rows[zero]).min(axis=1, initial=np.inf)
    near = np.abs(low - top) <= _ONE_MAGNITUDE * step * top
    if not bool((near & (top > 0)).all()):
        return None
    middle = top.astype(np.float64)
    several = zero | (low != top)
    if several.any():
        some = rows[several] if not several.all() else rows
        middle[several] = some.sum(axis=1, dtype=np.float64) / counts[several]
    middle[np.abs(middle - 1) <= step] = 1
    found: Array = middle.astype(weights.dtype)
    return found


def _filter_axis(layer: Node) -> int:
    return 0 if layer.op == "Conv" or layer.attrs.get("transB", 0) else -1


def _latents(facts: Facts, tensor: Tensor, shape: tuple[int, ...]) -> Iterator[Latent]:
    """The binarisations of tensors of their shape that weights are computed with, nearest first."""
    for each in _above(tensor):
        latent = binarised(each)
        if latent is not None and facts.constant(latent) and facts.source(latent).shape == shape:
            yield Latent(latent, not is_sign(each))


def _signs(facts: Facts, g: Graph, tensor: Tensor, form: BinaryForm) -> Tensor:
    """A binary layer's signs: the binarisation of the latent tensor that the file computes them from, or stored."""
    for each in form.latents:
        latent = each.tensor
        if each.same:
            value = latent if isinstance(latent, Constant) else np.asarray(facts.value(latent))
            kept = value if isinstance(value, Constant) else g.constant(f"{latent.name}/value", value)
        elif each.opposite and not (each.up and each.zeros):
            kept = g.constant(f"{latent.name}/negated", -np.asarray(facts.value(latent)))
        else:
            continue
        if each.up and each.zeros:
            return sign_up(g, kept, np.dtype(kept.dtype))
        return g.node("Sign", [kept], name=f"{kept.name}/Sign").outputs[0]
    if isinstance(tensor, Constant):
        return tensor if form.plain else g.signs(f"{tensor.name}/sign", tensor)
    return g.constant(f"{tensor.name}/sign", np.sign(np.asarray(facts.value(tensor))))


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
