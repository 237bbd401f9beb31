"""`--optimize`: what is added per channel is carried along with a map, and added where something has to see it.

A residual stream is shifted, added to and binarised, block after block, and each shift is a pass over the whole map.
Behind these rules a binarisation or an activation has one offset in front of it, and the stream has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import BLOCK, channels, numbers, offset_of, scale_of, stored_channels
from reptran_passes.merge_affine import per_channel

Array = NDArray[Any]

_AVERAGES = ("AveragePool", "GlobalAveragePool")


@rule("sink-offsets", effect=preserves(), phase="lower", order=10)
class SinkOffsets:
    """`f(x + c)` becomes `f(x) + c'`, for additions, pooling and Concat (only with --optimize)."""

    def pattern(p: Any) -> Any:
        return p.op("Add Concat AveragePool GlobalAveragePool MaxPool GlobalMaxPool")

    def check(m: Match) -> None:
        root, out = m.root, m.root.outputs[0]
        m.require(len(root.outputs) == 1, "has several outputs")
        m.require(channels(m, out) is not None, "makes no feature map")
        m.require(any(_moving(m, tensor) is not None for tensor in root.inputs), "reads no map with an offset to carry")
        if root.op_type in _AVERAGES:
            m.require(not _counts_padding(root), "averages its padding, too")
        elif root.op_type == "Concat":
            m.require(root.attrs["axis"] % 4 == 1, "joins no channels")
            m.require(all(channels(m, tensor) is not None for tensor in root.inputs), "joins what is stored")
        elif root.op_type == "Add":
            stored = [tensor for tensor in root.inputs if isinstance(tensor, Constant)]
            for each in stored:
                numbers(m, each, out)
            maps = [tensor for tensor in root.inputs if not isinstance(tensor, Constant)]
            m.require(all(m.context.same_shape(tensor, out) for tensor in maps), "widens an operand")

    def rewrite(m: Match, g: Graph) -> Tensor:
        root, out = m.root, m.root.outputs[0]
        bare, offsets = [], []
        for tensor in root.inputs:
            found = _moving(m, tensor)
            count = channels(m, tensor)
            if isinstance(tensor, Constant) and root.op_type == "Add":
                offsets.append(numbers(m, tensor, out))
                continue
            bare.append(tensor if found is None else found[0])
            offsets.append(np.zeros(count or 1) if found is None else found[1])
        total = np.concatenate(offsets) if root.op_type == "Concat" else np.sum(offsets, axis=0)
        moved = bare[0]
        if root.op_type != "Add" or len(bare) > 1:
            moved = g.node(root.op, bare, root.attrs, name=f"{root.name}/{root.op}").outputs[0]
        return g.node("Add", [moved, stored_channels(g, f"{root.name}/offset", total)], like=root).outputs[0]


@rule("offset-beside-scale", effect=preserves(), phase="lower", order=20)
class OffsetBesideScale:
    """`(a * y + x) + c` becomes `(a * y + c) + x`: an affine, and the addition of two maps (only with --optimize)."""

    def pattern(p: Any, x: Any, y: Any) -> Any:
        scaled = p.Mul(y, p.const("a", test=per_channel))
        return p.Add(p.Add(scaled, x, name="sum"), p.const("c", test=per_channel))

    def check(m: Match) -> None:
        out = m.root.outputs[0]
        m.require(not isinstance(m.x, Constant), "adds no map")
        for each in (m.a, m.c):
            numbers(m, each, out)
        m.require(m.context.same_shape(m.x, out), "widens an operand")

    def rewrite(m: Match, g: Graph) -> Tensor:
        scaled = g.node("Mul", [m.y, m.a], name=f"{m.root.name}/Mul").outputs[0]
        affine = g.node("Add", [scaled, m.c], name=f"{m.root.name}/affine").outputs[0]
        return g.node("Add", [affine, m.x], like=m.root).outputs[0]


def _moving(m: Match, tensor: Tensor) -> tuple[Tensor, Array] | None:
    """As `offset_of`, but for an offset behind a scale in blocks of channels: both are one convolution, and that
    adds it for nothing."""
    found = offset_of(m, tensor)
    if found is None or found[1].size % BLOCK:
        return found
    return None if scale_of(m, found[0]) is not None else found


def _counts_padding(node: Node) -> bool:
    """Whether an average is over padding, too."""
    padded = any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return bool(node.attrs.get("count_include_pad", 0)) and (padded or bool(node.attrs.get("ceil_mode", 0)))
