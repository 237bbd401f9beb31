"""Operators that real networks have now and then: a few of a kind side by side, and summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.generated.blocks import Block
from benchmarks.generated.builder import Builder, Map, per_channel
from benchmarks.generated.layers import norm
from benchmarks.generated.spelling import clip, reduce

#: Functions of one number, on 0.1 to 0.7.
UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity "
    "LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sin Sinh Softplus Softsign Sqrt Tan Tanh "
    "ThresholdedRelu"
).split()
BINARY = "Add Sub Mul Div Max Min Mean Sum Pow Mod".split()
COMPARISONS = "Less Greater LessOrEqual GreaterOrEqual Equal".split()
LOGIC = "And Or Xor".split()
REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
).split()
BITS = "BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitShift".split()

#: What onnxruntime has a kernel for from a later opset on than ONNX has the operator.
_LATER = {"Equal": 11, "Round": 11, "Max": 8, "Min": 8, "Mean": 8, "Sum": 8}


def available(b: Builder, ops: Sequence[str]) -> list[str]:
    """Those that the opset has."""
    return [op for op in ops if b.has(op) and b.opset >= _LATER.get(op, 0)]


def some(b: Builder, ops: Sequence[str], count: int) -> list[str]:
    """A few that the opset has, those of late opsets more often."""
    left = available(b, ops)
    late = [op for op in left if not _early(op)]
    chosen: list[str] = []
    while left and len(chosen) < count:
        op = b.pick(late) if late and b.chance(0.4) else b.pick(left)
        left.remove(op)
        late = [each for each in late if each != op]
        chosen.append(op)
    return chosen


def _early(op: str) -> bool:
    return bool(onnx.defs.has(op, 13)) and _LATER.get(op, 0) <= 13


def _squashed(b: Builder, x: Map) -> str:
    """0.1 to 0.7, where every function is defined and none is steep."""
    return b.add("Mul", [b.add("Add", [b.add("Sigmoid", [clip(b, x.name, -4.0, 4.0)]), b.scalar(0.2)]), b.scalar(0.6)])


def _total(b: Builder, x: Map, parts: Sequence[str]) -> Map:
    """The sum, normalised."""
    return norm(b, Map(b.add("Sum", parts), x.channels, x.space))


def functions(b: Builder, x: Map) -> Map:
    """Functions of one number side by side."""
    y = _squashed(b, x)
    parts = []
    for op in some(b, UNARY, 6):
        y_in = b.add("Reciprocal", [y]) if op == "Acosh" else y
        parts.append(b.add(op, [y_in]))
    return _total(b, x, parts)


def _operand(b: Builder, x: Map, y: str) -> str:
    """What a map meets: a number, one a channel, one a pixel, one for each place, or another map."""
    kind = b.pick(("number", "channel", "pixel", "place", "map"))
    if kind == "number":
        return b.scalar(1.5)
    if kind == "channel" or b.free and kind != "map":
        return per_channel(b, b.positive(x.channels) + np.float32(0.5))
    if kind == "map":
        return b.add("Add", [b.add("Sigmoid", [x.name]), b.scalar(0.5)])
    shape = x.space if kind == "pixel" else (1, x.channels, *x.space)
    return b.store(b.positive(*shape) + np.float32(0.5), kind)


def arithmetic(b: Builder, x: Map) -> Map:
    """Functions of two numbers side by side."""
    y = _squashed(b, x)
    parts = []
    for op in some(b, BINARY, 3):
        other = _operand(b, x, y)
        attributes = {"fmod": 1} if op == "Mod" else {}
        parts.append(b.add(op, [y, other] if b.chance(0.6) else [other, y], **attributes))
    return _total(b, x, parts)


def comparisons(b: Builder, x: Map) -> Map:
    """Comparisons and logic, as a mask on the map."""
    masks = []
    for op in some(b, COMPARISONS, 2):
        masks.append(b.add(op, [x.name, _operand(b, x, x.name)]))
    mask = b.add(b.pick(LOGIC), masks)
    for op in available(b, ("IsNaN", "IsInf")):
        if b.chance(0.7):
            mask = b.add("Or", [mask, b.add(op, [x.name])])
    if b.chance(0.5):
        mask = b.add("Not", [mask])
    if b.has("Where") and b.chance(0.6):
        return Map(b.add("Where", [mask, x.name, b.add("Tanh", [x.name])]), x.channels, x.space)
    factor = b.add("Cast", [mask], to=TensorProto.FLOAT)
    return Map(b.add("Add", [x.name, factor]), x.channels, x.space)


def reductions(b: Builder, x: Map, axis: str) -> Map:
    """Reductions over space or over the channels, as gates side by side."""
    y = _squashed(b, x)
    axes = [1] if axis == "channels" else list(range(2, 2 + b.axes))
    gates = [b.add("Sigmoid", [reduce(b, op, y, axes)]) for op in some(b, REDUCTIONS, 3)]
    if axis == "channels" or b.chance(0.4):
        found = b.add(b.pick(("ArgMax", "ArgMin")), [x.name], axis=axes[0], keepdims=1)
        gates.append(b.add("Sigmoid", [b.add("Cast", [found], to=TensorProto.FLOAT)]))
    return Map(b.add("Mul", [x.name, b.add("Sum", gates)]), x.channels, x.space)


def bits(b: Builder, x: Map) -> Map:
    """Whole numbers and their bits."""
    b.need(b.opset >= 18)
    steps = b.add("Mul", [_squashed(b, x), b.scalar(20.0)])
    y = b.add("Cast", [steps], to=TensorProto.UINT8)
    five = b.store(np.array(5, np.uint8), "five")
    parts = []
    for op in some(b, BITS, 3):
        inputs = [y] if op == "BitwiseNot" else [y, five]
        made = b.add(op, inputs, **({"direction": "RIGHT"} if op == "BitShift" else {}))
        parts.append(b.add("Cast", [made], to=TensorProto.FLOAT))
    return _total(b, x, parts)


OPERATORS: Mapping[str, Block] = {
    "functions of a number": functions,
    "arithmetic of two maps": arithmetic,
    "comparisons and logic": comparisons,
    "reductions over space": partial(reductions, axis="space"),
    "reductions over channels": partial(reductions, axis="channels"),
    "bits of whole numbers": bits,
}
