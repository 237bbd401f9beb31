"""`--weights packed`: weights of +1 and -1 are stored in one bit each, eight to a byte.

Standard operators make them out again, Cast, Gather in a table of the 256 bytes, and Reshape, which onnxruntime
computes once, when it loads the model. Weights that 0 is among take two bits, and so do those whose number 8 does not
divide, or as many as it takes for all bytes to be full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule

Array = NDArray[Any]

_BYTE = 8
#: The type of weights and what they are, 0, or its zero point, last: in float32, and by operator in integers.
_REAL = (np.float32, (-1, 1, 0))
_STORED: Mapping[str, tuple[Any, tuple[int, ...]]] = MappingProxyType(
    {"ConvInteger": (np.uint8, (0, 2, 1)), "MatMulInteger": (np.int8, (-1, 1, 0))}
)


@dataclass(frozen=True)
class _Code:
    """Numbers that weights are, and the bits that each takes: their places among the numbers."""

    values: tuple[int, ...]
    bits: int

    def packed(self, weights: Array) -> Array:
        """[size * bits / 8] uint8: the weights in their order, the first in the highest bits of a byte."""
        places = np.zeros(weights.size, np.uint8)
        for place, value in enumerate(self.values):
            places[weights.reshape(-1) == value] = place
        packed: Array = np.bitwise_or.reduce(places.reshape(-1, _BYTE // self.bits) << self._shifts(), axis=1)
        return packed

    def table(self, dtype: Any) -> Array:
        """[256, 8 / bits]: the weights that each byte holds."""
        places = (np.arange(256)[:, None] >> self._shifts()) & ((1 << self.bits) - 1)
        # No byte has the places behind the last number.
        table: Array = np.asarray(self.values, dtype)[np.minimum(places, len(self.values) - 1)]
        return table

    def _shifts(self) -> Array:
        return np.arange(_BYTE - self.bits, -1, -self.bits, dtype=np.uint8)


@rule("pack-weights", effect=preserves(), phase="lower", order=90)
class PackWeights:
    """A layer's stored signs become bits, and a table in front of it (only with --weights packed)."""

    def pattern(p: Any) -> Any:
        return p.op("Conv ConvInteger Gemm MatMul MatMulInteger")

    def check(m: Match) -> None:
        m.require(_code(m) is not None, "stores no weights of two or three values")
        weight = m.root.inputs[1]
        m.require(weight.values.size > weight.shape[0], "has one number a filter, fewer than make a table worth while")

    def rewrite(m: Match, g: Graph) -> Tensor:
        weight, code = m.root.inputs[1], _code(m)
        assert code is not None, "`check` has seen it"
        name, share = weight.name, m.context.shared
        bits = share(("bits", name), lambda: g.constant(f"{name}/bits", code.packed(weight.values)))
        table = share(("table", code, weight.dtype), lambda: g.constant("bits/table", code.table(weight.dtype)))
        place = g.node("Cast", [bits], {"to": TensorProto.INT32}, name=f"{name}/Cast").outputs[0]
        bytes_ = g.node("Gather", [table, place], {"axis": 0}, name=f"{name}/Gather").outputs[0]
        shape = g.constant(f"{name}/shape", list(weight.shape), np.int64)
        made = g.node("Reshape", [bytes_, shape], name=f"{name}/Reshape").outputs[0]
        inputs = [m.root.inputs[0], made, *m.root.inputs[2:]]
        return g.node(m.root.op, inputs, m.root.attrs, like=m.root).outputs[0]


def _code(m: Match) -> _Code | None:
    """How a layer's stored weights are written in the fewest bits; None where they are other numbers."""
    weight = m.root.input(1)
    if not isinstance(weight, Constant):
        return None
    dtype, values = _STORED.get(m.root.op_type, _REAL)
    if np.dtype(weight.dtype) != dtype or not np.isin(weight.values, values).all():
        return None
    some = values if (weight.values == values[-1]).any() else values[:-1]
    least = len(some) - 1
    return next((_Code(some, bits) for bits in (1, 2, 4, 8) if _fits(weight, bits, least)), None)


def _fits(weight: Constant, bits: int, least: int) -> bool:
    """Whether so many bits hold a weight, all bytes are full, and it is less than is stored."""
    return bits >= least and weight.values.size * bits % _BYTE == 0 and bits < _BYTE * weight.values.itemsize
