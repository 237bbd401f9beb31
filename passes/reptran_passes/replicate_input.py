"""THEORY rule 1, replicate input: a RepConv reads all copies, with its own weights rearranged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import Copies, Distinct, WeightMove, Wide, again, binarised, groups
from reptran_compiler.rewriting import Cost, Match, Tagged, reparametrises, rule
from reptran_passes.zero_bias import has_bias, no_bias

Array = NDArray[Any]


@rule(
    "replicate-input",
    effect=reparametrises(),
    cost=Cost(weights="==", macs="=="),
    phase="replicate",
    order=10,
)
class ReplicateInput:
    """`Conv(x^; W')` with the beta row blocks of W side by side: equal to the sum over r of `Conv(x(r); W(r))`."""

    def pattern(p: Any, x: Any) -> Any:
        return p.op("Conv Gemm MatMul", x, p.any("w"), p.any("b", optional=True), name="layer")

    def check(m: Match) -> None:
        m.require(m.context.role(m.layer) == "repconv", f"is no RepConv but {m.context.role(m.layer) or 'no layer'}")
        m.require(m.context.plan.scope == "network", "scope is layer")
        m.require(m.context.distinct(m.root.outputs[0]) is None, "is done")
        m.require(not has_bias(m.graph, m.layer), "has a bias that is no operator behind it")

    def rewrite(m: Match, g: Graph) -> Tagged:
        copies = m.context
        axis = copies.contracted(m.layer)
        reads = m.x if copies.wide(m.x) is not None else copies.repeated(g, m.x, axis)
        weight = rearranged(copies, g, m.layer)
        inputs = [reads, weight, *m.layer.inputs[2:]]
        out = g.node(m.layer.op, inputs, m.layer.attrs, like=m.layer).outputs[0]
        size = copies.shape(m.root.outputs[0])[copies.channels(m.layer)]
        return Tagged(out, Distinct(copies.channels(m.layer), size))

    def witness(m: Match, g: Graph) -> Tensor:
        copies = m.context
        state, axis = copies.wide(m.x), copies.contracted(m.layer)
        size = copies.shape(m.x)[axis]
        reads = m.x if state is not None else copies.repeated(g, m.x, axis)
        blocks = state.outer if state is not None and m.layer.op != "Conv" else groups(m.layer)
        order = Wide(axis, size, blocks).order(copies.beta)
        weight = m.facts.value(m.w)
        return sum_of_blocks(g, m.layer, [channels(g, reads, places, axis) for places in order], weight, copies.beta)


def channels(g: Graph, tensor: Tensor, places: Array, axis: int) -> Tensor:
    """Some channels of a map."""
    index = g.constant("witness/channels", places, np.int64)
    return g.node("Gather", [tensor, index], {"axis": axis}, name="witness").outputs[0]


def sum_of_blocks(g: Graph, layer: Node, copies: Sequence[Tensor], weight: Array, beta: int) -> Tensor:
    """`sum over r of Conv(x(r); W(r))`, with W(r) the r-th block of rows of W (of each group of W)."""
    last = layer.op != "Conv" and not layer.attrs.get("transB", 0)
    rows = weight.T if last else weight
    blocks = rows.reshape(groups(layer), beta, -1, *rows.shape[1:])
    total: Tensor | None = None
    for r, copy in enumerate(copies):
        part = np.ascontiguousarray(blocks[:, r].reshape(-1, *rows.shape[1:]))
        stored = g.constant("witness/weight", part.T if last else part)
        inputs = [copy, stored, *no_bias(g, layer.op, weight.dtype, "witness")]
        term = g.node(layer.op, inputs, layer.attrs, name="witness").outputs[0]
        total = term if total is None else g.node("Add", [total, term], name="witness").outputs[0]
    assert total is not None, "beta is at least 1"
    return total


def rearranged(copies: Copies, g: Graph, layer: Node) -> Tensor:
    """A RepConv's weights: the stored tensor, or the latent one behind its binarisation, in the order of rule 1.

    `W'[k, r*Ci + i] = W[r*Co/beta + k, i]`, inside each group; behind a Flatten of (H, W, C) the copies of x^ lie
    inside each position, and the columns follow.
    """
    tensor = layer.inputs[1]
    latent = binarised(tensor)
    stored = tensor if latent is None else latent
    assert isinstance(stored, Constant), "the canonical form stores weights, or what enters their binarisation"
    move = _move(copies, layer, stored)
    moved = copies.moved(g, stored, move)
    copies.moves[layer.name] = move
    return moved if latent is None else again(g, tensor, latent, moved)


def _move(copies: Copies, layer: Node, stored: Constant) -> WeightMove:
    """How the weights of a layer are rearranged."""
    state, beta, shape = copies.wide(layer.inputs[0]), copies.beta, tuple(stored.shape)
    outer = state.outer if state is not None else 1
    if layer.op != "Conv" and not layer.attrs.get("transB", 0):
        columns, filters = shape[0] // outer, shape[1] // beta
        split = (outer, columns, beta, filters)
        return WeightMove(layer.name, stored.name, "", split, (0, 2, 1, 3), (beta * shape[0], filters))
    parts, columns, rest = groups(layer), shape[1] // outer, shape[2:]
    filters = shape[0] // parts // beta
    split = (parts, beta, filters, outer, columns, *rest)
    order = (0, 2, 3, 1, 4, *range(5, 5 + len(rest)))
    return WeightMove(layer.name, stored.name, "", split, order, (parts * filters, beta * shape[1], *rest))
