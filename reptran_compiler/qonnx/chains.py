"""Finding the operators that binarise or quantise in a model of ONNX' own operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from reptran_compiler.model.referred import array_of
from reptran_compiler.qonnx.reading import ROUNDING, bounds

Array = NDArray[Any]

#: The numbers of bits that the bounds of a Clip may stand for.
_WIDTHS = range(2, 33)


@dataclass(frozen=True)
class Bipolar:
    """`Where(x >= 0, 1, -1)`, or Sign of stored numbers that are not 0. `x` is the tensor's name."""

    x: str


@dataclass(frozen=True)
class Integer:
    """`(round(clip(x / scale + zero)) - zero) * scale`.

    Attributes:
        x, scale, zero: tensors; `zero` is "" where nothing is added.
        bits, signed, narrow: the integer type whose range the clip leaves.
        rounding: as QONNX' `rounding_mode`.
    """

    x: str
    scale: str
    zero: str
    bits: int
    signed: bool
    narrow: bool
    rounding: str


class Chains:
    """The quantisers of a model's main graph.

    Args:
        model: the model, in ONNX' own operators.
    """

    def __init__(self, model: ModelProto) -> None:
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: node for node in model.graph.node for name in node.output if name}

    def value(self, name: str) -> Array | None:
        """The value of a stored tensor; None of others."""
        return array_of(self._stored[name]) if name in self._stored else None

    def ending_in(self, node: NodeProto) -> Bipolar | Integer | None:
        """The quantiser whose last operator is a node; None where it is not the last of one."""
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Where":
            x = self._not_below_zero(node.input[0])
            return Bipolar(x) if x and self._is(node.input[1], 1) and self._is(node.input[2], -1) else None
        if node.op_type == "Sign":
            values = self.value(node.input[0])
            return Bipolar(node.input[0]) if values is not None and values.all() else None
        return self._integer(node) if node.op_type == "Mul" else None

    def steps(self, node: NodeProto) -> dict[str, str]:
        """The tensors inside of a quantiser that ends in a node, by the type of the operator that makes them."""
        found = self.ending_in(node)
        inner: dict[str, str] = {}
        stack = list(node.input) if found is not None else []
        while stack:
            name = stack.pop()
            maker = self.maker.get(name)
            if maker is None or found is None or name == found.x:
                continue
            inner[maker.op_type] = name
            stack += maker.input
        return inner

    def _not_below_zero(self, mask: str) -> str:
        """The x of a mask that says where x is not below 0; "" of others."""
        compare, wanted = self.maker.get(mask), "GreaterOrEqual"
        if compare is not None and compare.op_type == "Not":
            compare, wanted = self.maker.get(compare.input[0]), "Less"
        if compare is None or compare.op_type != wanted or not self._is(compare.input[1], 0):
            return ""
        return str(compare.input[0])

    def _integer(self, node: NodeProto) -> Integer | None:
        for centred, scale in (node.input, reversed(node.input)):
            shift = self._step(centred, "Sub")
            zero = shift.input[1] if shift is not None else ""
            rounded = self._step(shift.input[0] if shift is not None else centred, *ROUNDING.values())
            clipped = self._step(rounded.input[0], "Clip") if rounded is not None else None
            if rounded is None or clipped is None or self.value(scale) is None:
                continue
            kind = self._kind(clipped)
            divided = self._unshifted(clipped.input[0], zero) if kind is not None else None
            if kind is not None and divided is not None and self._same(divided.input[1], scale):
                mode = next(word for word, op_type in ROUNDING.items() if op_type == rounded.op_type)
                return Integer(str(divided.input[0]), str(scale), str(zero), *kind, mode)
        return None

    def _unshifted(self, name: str, zero: str) -> NodeProto | None:
        """The Div in front of the zero point's Add."""
        if not zero:
            return self._step(name, "Div")
        shift = self._step(name, "Add")
        for divided, added in (shift.input, reversed(shift.input)) if shift is not None else ():
            if self._same(added, zero) and self._step(divided, "Div") is not None:
                return self._step(divided, "Div")
        return None

    def _kind(self, clip: NodeProto) -> tuple[int, bool, bool] | None:
        """Bits, signed and narrow of the integer type that a Clip's bounds are those of."""
        ends = [self.value(name) for name in clip.input[1:]]
        if len(ends) != 2 or any(end is None or end.size != 1 for end in ends):
            return None
        found = tuple(float(np.reshape(end, ())) for end in ends if end is not None)
        kinds = ((bits, signed, narrow) for bits in _WIDTHS for signed in (True, False) for narrow in (False, True))
        return next((kind for kind in kinds if bounds(*kind) == found), None)

    def _step(self, name: str, *op_types: str) -> NodeProto | None:
        """The operator that makes a tensor, if it is of one of some types."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type in op_types and node.domain in ("", "ai.onnx") else None

    def _same(self, one: str, other: str) -> bool:
        """Whether two stored tensors hold the same."""
        first, second = self.value(one), self.value(other)
        if first is None or second is None:
            return False
        return first.shape == second.shape and bool(np.array_equal(first, second))

    def _is(self, name: str, value: float) -> bool:
        found = self.value(name)
        return found is not None and found.size == 1 and found.dtype == np.float32 and float(found.reshape(())) == value
