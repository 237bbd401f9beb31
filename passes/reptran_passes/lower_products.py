"""`--optimize int8`: binary layers as products of integers, of the map's windows and the weights.

The map turns to channels last, as 0, 1 and 2 around a zero point of 1 (uint8), one Gather lays its windows out, a row
for each pixel, and MatMulInteger multiplies them by weights in int8, which onnxruntime packs when it loads the model.
The windows' places are a sum of two short lists, which it adds up then, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.model.windows import Windows, windows_of
from reptran_compiler.rewriting import Match, preserves, rule
from reptran_passes.lower_affine import channels, depthwise, require_blocks
from reptran_passes.lower_copies import copied
from reptran_passes.lower_integers import check_layer, layer_pattern

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@rule("integer-product", effect=preserves(), phase="lower", order=35)
class IntegerProduct:
    """A binary Conv becomes a MatMulInteger of uint8 windows and int8 weights (only with --optimize int8 or auto)."""

    pattern = layer_pattern

    def check(m: Match) -> None:
        check_layer(m, "product")
        _windows(m)

    def rewrite(m: Match, g: Graph) -> Tensor:
        name, k, windows = m.layer.name, m.get("k"), _windows(m)
        outputs = m.w.shape[0]
        one = _number(m, g, np.asarray(1, np.uint8))
        # What is taken off the map is its zero point, which is what it is padded with.
        zero = one if k is None else _number(m, g, (1 - k.values.reshape(())).astype(np.uint8))
        last = g.node("Transpose", [m.x], {"perm": _LAST}, name=f"{name}/channels-last").outputs[0]
        unit = _number(m, g, np.asarray(1, np.float32))
        codes = g.node("QuantizeLinear", [last, unit, one], name=f"{name}/signs").outputs[0]
        rows = codes if windows.single else _gathered(m, g, codes, windows, zero)
        weights = m.w.values.transpose(2, 3, 1, 0).reshape(-1, outputs)
        pixels = windows.extent[0] * windows.extent[1]
        rows = _reshaped(m, g, rows, [0, pixels, weights.shape[0]], f"{name}/windows")
        stored = g.constant(f"{name}/weights", weights, np.int8)
        sums = g.node("MatMulInteger", [rows, stored, zero], name=f"{name}/MatMulInteger").outputs[0]
        reals = g.node("Cast", [sums], {"to": TensorProto.FLOAT}, name=f"{name}/Cast").outputs[0]
        plane = _reshaped(m, g, reals, [0, *windows.extent, outputs], f"{name}/plane")
        if k is None:
            return g.node("Transpose", [plane], {"perm": _FIRST}, like=m.layer).outputs[0]
        made = g.node("Transpose", [plane], {"perm": _FIRST}, name=f"{name}/channels-first").outputs[0]
        offset = g.constant(f"{name}/offset", m.b.values.reshape(-1, 1, 1))
        return g.node("Add", [made, offset], like=m.layer).outputs[0]


@rule("copies-in-blocks", effect=preserves(), phase="lower", order=46)
class CopiesInBlocks:
    """`Concat(y, y)` of a product becomes `Concat(1 y, 1 y)`, by a depthwise convolution (only with --optimize int8 or
    auto): onnxruntime turns the map into blocks in front of that, once and not for each copy, and copies blocks."""

    def pattern(p: Any) -> Any:
        return p.Concat()

    def check(m: Match) -> None:
        one, _ = copied(m, m.root)
        require_blocks(m, one)
        made = one.inputs[0] if one.inputs else None
        product = made is not None and made.op_type == "Transpose" and m.context.integer.get(made.name) == "product"
        m.require(product, "repeats no product of integers", one)

    def rewrite(m: Match, g: Graph) -> Tensor:
        one, times = copied(m, m.root)
        blocked = depthwise(g, one, f"{one.inputs[0].name}/blocks", np.ones(channels(m, one) or 0))
        return g.node("Concat", [blocked] * times, m.root.attrs, like=m.root).outputs[0]


def _windows(m: Match) -> Windows:
    """The windows of a layer; the match is turned down where they are not the same for each image."""
    extent, (_, _, *kernel) = m.context.extent(m.x), m.w.shape
    found = None if extent is None else windows_of(m.layer, (kernel[0], kernel[1]), extent)
    if found is None:
        m.turn_down("reads a map of dynamic size, chooses its padding by the size, or crops", m.layer)
    return found


def _gathered(m: Match, g: Graph, codes: Tensor, windows: Windows, zero: Constant) -> Tensor:
    """The windows of a map [N, H, W, C], as [N, H', W', kernel height, kernel width, C]."""
    name, (rows, columns) = m.layer.name, windows.padded
    if windows.pads:
        pads = [0, *windows.starts, 0, 0, *windows.ends, 0]
        stored = m.context.shared(("pads", *pads), lambda: g.constant("windows/pads", pads, np.int64))
        codes = g.node("Pad", [codes, stored, zero], name=f"{name}/Pad").outputs[0]
    pixels = _reshaped(m, g, codes, [0, rows * columns, int(m.w.shape[1])], f"{name}/pixels")
    starts = [
        windows.strides[axis] * np.arange(windows.extent[axis])[:, None]
        + windows.dilations[axis] * np.arange(windows.kernel[axis])
        for axis in (0, 1)
    ]

    def place(axis: int) -> Constant:
        steps = starts[axis] * (columns if axis == 0 else 1)
        shaped = np.expand_dims(steps, (1, 3) if axis == 0 else (0, 2))
        return g.constant("windows/rows" if axis == 0 else "windows/columns", shaped, np.int32)

    both = [m.context.shared((windows, axis), lambda axis=axis: place(axis)) for axis in (0, 1)]
    places = g.node("Add", both, name=f"{name}/places").outputs[0]
    return g.node("Gather", [pixels, places], {"axis": 1}, name=f"{name}/Gather").outputs[0]


def _reshaped(m: Match, g: Graph, x: Tensor, shape: list[int], name: str) -> Tensor:
    stored = m.context.shared(("shape", *shape), lambda: g.constant("windows/shape", shape, np.int64))
    return g.node("Reshape", [x, stored], name=name).outputs[0]


def _number(m: Match, g: Graph, value: np.ndarray[Any, Any]) -> Constant:
    found: Constant = m.context.shared(("number", value.dtype, value.item()), lambda: g.constant("number", value))
    return found
