"""`--optimize int8`: binary layers in integers, whose sums are the same numbers.

The weights are stored as 0 and 2 (uint8) around a zero point of 1, the map as -1, 0 and 1 (int8): the other way round,
onnxruntime is several times slower. Sums of signs have the zero point that fits them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import IntegerForm, binarised
from reptran_compiler.rewriting import Match, preserves, rule


def _is_sign(tensor: Tensor) -> bool:
    """Whether a stored tensor is one number, +1 or -1."""
    return isinstance(tensor, Constant) and tensor.values.size == 1 and abs(float(tensor.values.reshape(-1)[0])) == 1.0


def layer_pattern(p: Any, x: Any) -> Any:
    """A Conv of a map, or one of a map and a sign, as `pad-by-layer` leaves it, with a bias."""
    lowered = p.Conv(p.Add(x, p.const("k", test=_is_sign)), p.const("w"), p.const("b"), name="layer")
    return p.either(lowered, p.Conv(x, p.const("w"), name="layer"))


def check_layer(m: Match, form: IntegerForm) -> None:
    """Turn a match of `layer_pattern` down whose layer does not compute in integers in this form."""
    m.require(m.context.integer.get(m.layer.name) == form, f"is not one of the layers that are a {form} of integers")
    m.require(binarised(m.x) is not None, "does not read a binarised map")


@rule("integer-convolution", effect=preserves(), phase="lower", order=35)
class IntegerConvolution:
    """A binary Conv becomes a ConvInteger of int8 signs and uint8 weights (only with --optimize int8 or auto)."""

    pattern = layer_pattern

    def check(m: Match) -> None:
        check_layer(m, "convolution")

    def rewrite(m: Match, g: Graph) -> Tensor:
        name, k = m.layer.name, m.get("k")
        signs = g.node("Cast", [m.x], {"to": TensorProto.INT8}, name=f"{name}/signs").outputs[0]
        largest = np.abs(m.w.values).max(initial=1)
        weights = g.constant(f"{name}/weights", m.w.values + largest, np.uint8)
        middle = g.constant(f"{name}/zero", np.asarray(largest, np.uint8))
        # What is taken off the map is its zero point, which is what ConvInteger pads with.
        lower = None if k is None else g.constant(f"{name}/lower", -k.values.reshape(()), np.int8)
        sums = g.node(
            "ConvInteger", [signs, weights, lower, middle], m.layer.attrs, name=f"{name}/ConvInteger"
        ).outputs[0]
        if k is None:
            return g.node("Cast", [sums], {"to": TensorProto.FLOAT}, like=m.layer).outputs[0]
        reals = g.node("Cast", [sums], {"to": TensorProto.FLOAT}, name=f"{name}/Cast").outputs[0]
        offset = g.constant(f"{name}/offset", m.b.values.reshape(-1, 1, 1))
        return g.node("Add", [reals, offset], like=m.layer).outputs[0]
