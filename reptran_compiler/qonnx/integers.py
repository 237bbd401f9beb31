"""The integer types of quantised weights, which are numbers once they are stored: where they come from, and whether
numbers are still of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from reptran_compiler.qonnx.reading import DOMAINS, bounds, parameters

Array = NDArray[Any]

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_QUANTS = frozenset({"Quant", "IntQuant"})


@dataclass(frozen=True)
class IntegerType:
    """Integers of some bits, times a scale.

    Attributes:
        bits, signed, narrow: the integers.
        scale: an array that the weights' shape broadcasts with.
    """

    bits: int
    signed: bool
    narrow: bool
    scale: Array

    def name_for(self, values: Array, parts: int) -> str:
        """What qonnx calls the type of some numbers, if they are of this type, or each a `parts`-th of one that is;
        "" of others."""
        for scale in (self.scale, self.scale / np.float32(parts)):
            if self._holds(values, scale):
                return (
                    f"SCALEDINT<{self.bits}>" if (scale != 1).any() else f"{'' if self.signed else 'U'}INT{self.bits}"
                )
        return ""

    def _holds(self, values: Array, scale: Array) -> bool:
        try:
            whole = np.round(values / scale)
        except ValueError:
            return False
        low, high = bounds(self.bits, self.signed, self.narrow)
        fits = bool(np.all((whole >= low) & (whole <= high)))
        return fits and whole.shape == values.shape and bool(np.allclose(whole * scale, values, rtol=1e-6, atol=0))


def integer_weights(source: ModelProto) -> dict[str, IntegerType]:
    """The types of the weights that a QONNX model quantises to integers without a zero point, by layer name."""
    values = dict(parameters(source))
    stored = {tensor.name for tensor in source.graph.initializer}
    stored |= {node.output[0] for node in source.graph.node if node.op_type == "Constant"}
    quants = {node.output[0]: node for node in source.graph.node if node.domain in DOMAINS and node.op_type in _QUANTS}
    found = {}
    for layer in source.graph.node:
        quant = quants.get(layer.input[1]) if layer.op_type in _LAYERS else None
        if quant is None or quant.input[0] not in stored or not all(name in values for name in quant.input[1:]):
            continue
        scale, zero, bits = (values[name] for name in quant.input[1:])
        flags: Mapping[str, Any] = {each.name: helper.get_attribute_value(each) for each in quant.attribute}
        if bits.size == 1 and not zero.any():
            signed, narrow = (bool(flags.get(key, 1)) for key in ("signed", "narrow"))
            found[layer.name] = IntegerType(int(bits.reshape(())), signed, narrow, np.asarray(scale, np.float32))
    return found
