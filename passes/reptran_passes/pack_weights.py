"""`--weights packed`: weights of +1 and -1 are stored in one bit each, eight to a byte.

Standard operators make them out again, Cast, Gather in a table of the 256 bytes, and Reshape, which onnxruntime
computes once, when it loads the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.rewriting import Match, preserves, rule

Array = NDArray[Any]

_BITS = 8
#: What a bit of 0 and of 1 stands for where the layer computes in float32, and where it computes in integers.
_REAL, _INTEGER = (-1, 1), (0, 2)


@rule("pack-weights", effect=preserves(), phase="lower", order=90)
class PackWeights:
    """A layer's stored signs become bits, and a table in front of it (only with --weights packed)."""

    def pattern(p: Any) -> Any:
        return p.op("Conv ConvInteger Gemm MatMul")

    def check(m: Match) -> None:
        m.require(_signs(m) is not None, "stores no weights of two values")
        m.require(m.root.inputs[1].values.size % _BITS == 0, f"has a number of weights that {_BITS} does not divide")

    def rewrite(m: Match, g: Graph) -> Tensor:
        weight, values = m.root.inputs[1], _signs(m)
        assert values is not None, "`check` has seen them"
        bits = m.context.shared(("bits", weight.name), lambda: _packed(g, weight, values))
        table = m.context.shared(("table", values), lambda: _table(g, values, weight.dtype))
        place = g.node("Cast", [bits], {"to": TensorProto.INT32}, name=f"{weight.name}/Cast").outputs[0]
        bytes_ = g.node("Gather", [table, place], {"axis": 0}, name=f"{weight.name}/Gather").outputs[0]
        shape = g.constant(f"{weight.name}/shape", list(weight.shape), np.int64)
        made = g.node("Reshape", [bytes_, shape], name=f"{weight.name}/Reshape").outputs[0]
        inputs = [m.root.inputs[0], made, *m.root.inputs[2:]]
        return g.node(m.root.op, inputs, m.root.attrs, like=m.root).outputs[0]


def _signs(m: Match) -> tuple[int, int] | None:
    """What a layer's stored weights consist of; None where they are not of two such values."""
    weight = m.root.input(1)
    if not isinstance(weight, Constant):
        return None
    wanted = _INTEGER if m.root.op_type == "ConvInteger" else _REAL
    if np.dtype(weight.dtype) != (np.uint8 if wanted is _INTEGER else np.float32):
        return None
    return wanted if bool(np.isin(weight.values, wanted).all()) else None


def _packed(g: Graph, weight: Constant, values: tuple[int, int]) -> Constant:
    """Eight weights to a byte, the first in its highest bit."""
    return g.constant(f"{weight.name}/bits", np.packbits(weight.values.reshape(-1) == values[1]))


def _table(g: Graph, values: tuple[int, int], dtype: Any) -> Constant:
    """[256, 8]: what the bits of each byte stand for."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return g.constant("bits/table", np.where(bits == 1, values[1], values[0]).astype(dtype))
