"""`--optimize float`: per-channel arithmetic as depthwise 1x1 convolutions, which stay in the blocked layout.

onnxruntime holds maps of 16 channels, or multiples, in blocks of channels while convolutions, poolings, additions and
Concat follow each other, and turns them over for any other operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.merge_affine import per_channel

Array = NDArray[Any]

#: onnxruntime keeps maps of so many channels, or multiples, in its blocked layout.
BLOCK = 16


def channels(m: Match, tensor: Tensor) -> int | None:
    """The channels of a float32 feature map [N, C, H, W]; None of another tensor, and where they are a dynamic axis."""
    if isinstance(tensor, Constant):
        return None
    fact, shape = m.facts.of(tensor), m.context.shape(tensor)
    if shape is None and m.context.open_axes:
        return None
    if shape is not None and len(shape) == 4 and shape[1].constant is None:
        return None
    return int(fact.shape[1]) if len(fact.shape) == 4 and fact.dtype == np.float32 else None


def along_channels(m: Match, stored: Tensor, like: Tensor) -> Array | None:
    """A stored tensor that acts on each channel of a feature map as float64 [C]; None where it does something else."""
    count = channels(m, like)
    if count is None or not per_channel(stored):
        return None
    if stored.values.size == 1:
        return np.full(count, float(stored.values.reshape(-1)[0])) if len(stored.shape) <= 4 else None
    place = 1 - 4 + len(stored.shape)
    if len(stored.shape) > 4 or place < 0 or stored.shape[place] != count or count != stored.values.size:
        return None
    return np.asarray(stored.values, np.float64).reshape(-1)


def numbers(m: Match, stored: Tensor, like: Tensor) -> Array:
    """A stored tensor as `along_channels` gives it; the match is turned down where that is None."""
    found = along_channels(m, stored, like)
    if found is None:
        m.turn_down("acts on something else than each channel", stored)
    return found


def offset_of(m: Match, tensor: Tensor) -> tuple[Tensor, Array] | None:
    """The feature map and the numbers per channel, [C], that an Add makes a tensor of; None where none does."""
    return _with_numbers(m, tensor, "Add")


def scale_of(m: Match, tensor: Tensor) -> tuple[Tensor, Array] | None:
    """The feature map and the numbers per channel, [C], that a Mul makes a tensor of; None where none does."""
    return _with_numbers(m, tensor, "Mul")


def _with_numbers(m: Match, tensor: Tensor, op: str) -> tuple[Tensor, Array] | None:
    if isinstance(tensor, Constant) or not tensor.inputs or tensor.inputs[0].op_type != op:
        return None
    for x, stored in (tensor.inputs[0].inputs, reversed(tensor.inputs[0].inputs)):
        if channels(m, x) is not None and m.facts.of(x) == m.facts.of(tensor):
            values = along_channels(m, stored, tensor)
            if values is not None:
                return x, values
    return None


def stored_channels(g: Graph, name: str, values: Array) -> Constant:
    """Numbers per channel as a float32 [C, 1, 1] tensor."""
    return g.constant(name, values.reshape(-1, 1, 1).astype(np.float32))


def depthwise(g: Graph, x: Tensor, name: str, scale: Array, offset: Array | None = None) -> Tensor:
    """A per-channel affine as a depthwise 1x1 convolution, which onnxruntime computes in its blocked layout.

    Args:
        g: the graph.
        x: the feature map [N, C, H, W].
        name: a hint for the names.
        scale, offset: [C].
    """
    inputs = [x, g.constant(f"{name}/scale", scale.reshape(-1, 1, 1, 1).astype(np.float32))]
    if offset is not None and offset.any():
        inputs.append(g.constant(f"{name}/offset", offset.astype(np.float32)))
    made = g.node("Conv", inputs, {"group": scale.size, "kernel_shape": [1, 1]}, name=f"{name}/depthwise")
    return made.outputs[0]


def require_blocks(m: Match, x: Tensor) -> None:
    """Turn a match down whose map has no blocks of channels."""
    count = channels(m, x)
    m.require(count is not None and count % BLOCK == 0, f"its channels are no multiple of {BLOCK}")


def _is_affine(m: Match) -> None:
    require_blocks(m, m.x)
    m.require(m.facts.of(m.x) == m.facts.of(m.root.outputs[0]), "widens the map")
    for stored in (m.get("a"), m.get("b")):
        if stored is not None:
            numbers(m, stored, m.x)
    maker = m.x.inputs[0] if m.x.inputs else None
    fused = maker is not None and maker.op_type == "Conv" and isinstance(maker.inputs[1], Constant)
    m.require(not fused or len(m.x.outputs) > 1, "is fused with the convolution in front when the model is loaded")


def _as_depthwise(m: Match, g: Graph) -> Tensor:
    a, b = m.get("a"), m.get("b")
    scale = np.ones(channels(m, m.x) or 0) if a is None else numbers(m, a, m.x)
    return depthwise(g, m.x, m.root.name, scale, None if b is None else numbers(m, b, m.x))


@rule("affine-by-depthwise", effect=preserves(), phase="lower", order=50)
class AffineByDepthwise:
    """`x * a + b`, per channel, becomes a depthwise 1x1 convolution (only with --optimize float)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.Add(p.Mul(x, p.const("a", test=per_channel)), p.const("b", test=per_channel))

    check = _is_affine
    rewrite = _as_depthwise


@rule("scale-by-depthwise", effect=preserves(), phase="lower", order=51)
class ScaleByDepthwise:
    """`x * a` or `x + b`, per channel, becomes a depthwise 1x1 convolution (only with --optimize float)."""

    def pattern(p: Any, x: Any) -> Any:
        return p.either(p.Mul(x, p.const("a", test=per_channel)), p.Add(x, p.const("b", test=per_channel)))

    check = _is_affine
    rewrite = _as_depthwise
