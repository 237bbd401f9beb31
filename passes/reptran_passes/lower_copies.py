"""`--optimize`: what is computed once is not computed for each copy, and the copies are made where they cost least."""

from __future__ import annotations

from typing import Any

import numpy as np

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.replication import binarised, is_sign, sign_up
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import BLOCK, channels

#: Operators that do to each channel what they do to any; what they read beside the map is stored.
_ALIKE = (
    "Relu Clip LeakyRelu Elu Selu Celu HardSigmoid HardSwish Sigmoid Softplus Softsign Tanh Abs Neg "
    "MaxPool AveragePool GlobalMaxPool GlobalAveragePool"
)


def is_replication(node: Node) -> bool:
    """Whether an operator is a Concat of one tensor, several times, along the axis of channels of [N, C, H, W]."""
    if node.op_type != "Concat" or len(node.inputs) == 1 or node.attrs["axis"] not in (1, -3):
        return False
    return all(tensor is node.inputs[0] for tensor in node.inputs)


def copied(m: Match, node: Node) -> tuple[Tensor, int]:
    """The map that a Concat repeats along the channels, and how often; the match is turned down elsewhere."""
    m.require(is_replication(node), "is no replication", node)
    one = node.inputs[0]
    m.require(channels(m, one) is not None, "joins no feature maps of float32", node)
    return one, len(node.inputs)


@rule("repetition-by-concat", effect=preserves(), phase="lower", order=1)
class RepetitionByConcat:
    """A Tile of feature maps along their channels becomes Concat, in a Rep network that is lowered as it is, too (only
    with --optimize)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Tile(x, p.const("times"))

    def check(m: Match) -> None:
        m.require(channels(m, m.x) is not None, "repeats no feature maps of float32")
        ones, times = m.times.values[[0, 2, 3]], m.times.values[1]
        m.require(bool((ones == 1).all()) and times > 1, "repeats along other axes than the channels", m.root)

    def rewrite(m: Match, g: Graph) -> Tensor:
        return g.node("Concat", [m.x] * int(m.times.values[1]), {"axis": 1}, like=m.root).outputs[0]


@rule("activation-once", effect=preserves(), phase="lower", order=6)
class ActivationOnce:
    """`f(Concat(x, x))` becomes `Concat(f(x), f(x))` for activations and pooling (only with --optimize)."""

    def pattern(p: Any) -> Any:
        return p.op(_ALIKE)

    def check(m: Match) -> None:
        joined = m.root.inputs[0]
        m.require(len(m.root.outputs) == 1, "has several outputs")
        m.require(not isinstance(joined, Constant) and bool(joined.inputs), "reads an input")
        m.require(all(tensor.name == "" or _is_scalar(tensor) for tensor in m.root.inputs[1:]), "reads more than a map")
        copied(m, joined.inputs[0])

    def rewrite(m: Match, g: Graph) -> Tensor:
        join = m.root.inputs[0].inputs[0]
        one, times = copied(m, join)
        rest = [tensor if tensor.name else None for tensor in m.root.inputs[1:]]
        bent = g.node(m.root.op, [one, *rest], m.root.attrs, name=f"{m.root.name}/once").outputs[0]
        return g.node("Concat", [bent] * times, join.attrs, like=m.root).outputs[0]


def _is_scalar(tensor: Tensor) -> bool:
    return isinstance(tensor, Constant) and tensor.values.size == 1


@rule("convolve-once", effect=preserves(), phase="lower", order=9)
class ConvolveOnce:
    """`Conv(Concat(x, x), [v | w])` becomes `Conv(x, v + w)`, in front of a binarisation, too (only with --optimize).

    Copies are the same there whatever the network is trained to: nothing per channel is between them and the layer.
    """

    def pattern(p: Any, x: Any) -> Any:
        return p.Conv(x, p.const("w"), p.const("b", optional=True))

    def check(m: Match) -> None:
        m.require(m.root.attrs.get("group", 1) == 1, "its filters are in groups")
        front = binarised(m.x)
        repeated = m.x if front is None else front
        m.require(not isinstance(repeated, Constant) and bool(repeated.inputs), "reads an input")
        copied(m, repeated.inputs[0])
        if front is not None:
            alone = len(m.x.outputs) == 1 and not m.graph.is_output(m.x)
            m.require(alone, "something else reads the binarised copies", m.x)

    def rewrite(m: Match, g: Graph) -> Tensor:
        front = binarised(m.x)
        one, times = copied(m, (m.x if front is None else front).inputs[0])
        if front is not None:
            dtype = m.facts.of(m.x).dtype
            once = g.node("Sign", [one], name="sign").outputs[0] if is_sign(m.x) else sign_up(g, one, dtype)
            m.keep_name(m.x, once)
            one = once
        filters, _, *kernel = m.w.shape
        summed = m.w.values.astype(np.float64).reshape(filters, times, -1, *kernel).sum(axis=1)
        weights = g.constant(f"{m.w.name}/summed", summed, m.w.dtype)
        bias = m.get("b")
        inputs = [one, weights] if bias is None else [one, weights, bias]
        return g.node("Conv", inputs, m.root.attrs, like=m.root).outputs[0]


@rule("copies-by-filters", effect=preserves(), phase="lower", order=45)
class CopiesByFilters:
    """Copies of 8 channels, or fewer, become filters that are stored twice (only with --optimize).

    onnxruntime computes 16 filters in the time of 8, and joins whole blocks without leaving the blocked layout.
    """

    def pattern(p: Any) -> Any:
        return p.Concat()

    def check(m: Match) -> None:
        one, times = copied(m, m.root)
        filters = channels(m, one) or BLOCK
        m.require(BLOCK % filters == 0 and filters < BLOCK, f"{filters} channels do not divide a block")
        m.require(times % (BLOCK // filters) == 0, "makes no whole number of blocks")
        layer = _layer(m, one)
        m.require(layer.attrs.get("group", 1) == 1, "its filters are in groups", layer)

    def rewrite(m: Match, g: Graph) -> Tensor:
        one, times = copied(m, m.root)
        more = BLOCK // (channels(m, one) or BLOCK)
        made = _with_filters(m, g, one, more)
        if times == more:
            return made
        return g.node("Concat", [made] * (times // more), m.root.attrs, like=m.root).outputs[0]


def _layer(m: Match, tensor: Tensor) -> Node:
    """The convolution with stored weights that makes a map for the copies alone, a Relu between them or none."""
    m.require(bool(tensor.inputs), "repeats an input")
    maker: Node = tensor.inputs[0]
    alone = len({id(reader) for reader in tensor.outputs}) == 1 and not m.graph.is_output(tensor)
    m.require(alone, "something else reads what is repeated", tensor)
    if maker.op_type == "Relu":  # of sums of signs it leaves integers, whose equality to the bit can be shown
        return _layer(m, maker.inputs[0])
    m.require(maker.op_type == "Conv", "repeats what no convolution makes", tensor)
    stored = all(isinstance(each, Constant) for each in maker.inputs[1:])
    m.require(stored, "its weights are computed", maker)
    return maker


def _with_filters(m: Match, g: Graph, tensor: Tensor, more: int) -> Tensor:
    """A map as `_layer` accepts it, with its channels several times."""
    maker: Node = tensor.inputs[0]
    if maker.op_type != "Conv":
        inner = _with_filters(m, g, maker.inputs[0], more)
        return g.node(maker.op, [inner], maker.attrs, name=f"{maker.name}/wide").outputs[0]
    inputs = [maker.inputs[0]]
    for each in maker.inputs[1:]:
        repeats = (more, *(1 for _ in each.shape[1:]))
        inputs.append(g.constant(f"{each.name}/more", np.tile(each.values, repeats)))
    return g.node("Conv", inputs, maker.attrs, name=f"{maker.name}/wide").outputs[0]
