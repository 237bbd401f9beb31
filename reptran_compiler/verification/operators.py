"""How each operator of the source acts on copies (THEORY section 2, item 3, and what needs no item).

A rule is a function of the walk and the node. It emits the node's copies and sets its outputs, or raises
`Boundary` with the reason why the operator depends on other channels. An operator without a rule is a
boundary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from reptran_compiler.verification.carrying import Layout, Rule, Walk, fact_of, only_wide, stored, unmoved
from reptran_compiler.verification.copies import Boundary, Copies
from reptran_compiler.verification.moving import carry_concat, carry_pad, carry_slice, carry_split, shuffle_groups
from reptran_compiler.verification.protograph import NodeView


def rules() -> Mapping[str, Rule]:
    """The rule of every operator that has one, by operator type."""
    return _RULES


def elementwise(walk: Walk, node: NodeView) -> None:
    """Operators that broadcast their operands: each copy on its own, narrow operands shared."""
    places = set()
    for name in node.inputs:
        copies = walk.read(name) if name else Copies(("",))
        if copies.axis is not None:
            places.add((fact_of(walk, name).rank - copies.axis, copies.blocks))
    if len(places) != 1:
        raise Boundary("its operands carry channels on different axes")
    from_right, blocks = places.pop()
    walk.each_copy(node, [(fact_of(walk, name).rank - from_right, blocks) if name else None for name in node.outputs])


def _spatial(walk: Walk, node: NodeView) -> None:
    """Operators on (N, C, space) that treat every channel alike and apart."""
    copies, _ = only_wide(walk, node)
    if copies.axis != 1 or copies.blocks != 1:
        raise Boundary(f"{node.op} works across the channels, which are not on axis 1")
    if any(node.outputs[1:]):
        raise Boundary(f"the second output of {node.op} numbers the elements of all channels")
    walk.each_copy(node, [(1, 1)])


def _batch_normalization(walk: Walk, node: NodeView) -> None:
    copies, _ = only_wide(walk, node)
    assert copies.axis is not None
    training = bool(node.attribute("training_mode", 0)) or any(node.outputs[1:])
    if training and copies.axis != 1:
        raise Boundary("BatchNormalization takes statistics across the channels, which are not on axis 1")
    walk.each_copy(node, [(copies.axis, copies.blocks), *[(0, 1)] * (len(node.outputs) - 1)])


def _resize(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    if fact_of(walk, node.outputs[0]).shape[copies.axis] != fact.shape[copies.axis]:
        raise Boundary(f"{node.op} changes the number of channels")
    walk.each_copy(node, unmoved(copies, node))


def _reduce(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    axes = _reduced_axes(walk, node, fact.rank)
    if copies.axis in axes:
        whole = walk.emit.concat(copies.names, copies.axis, f"{node.inputs[0]}@whole")
        outputs = walk.once(node, [whole, *node.inputs[1:]])
        for name, made in zip(node.outputs, outputs, strict=True):
            walk.set(name, Copies((made,)))
        return
    keep = bool(node.attribute("keepdims", 1))
    axis = copies.axis if keep else copies.axis - sum(1 for other in axes if other < copies.axis)
    walk.each_copy(node, [(axis, copies.blocks)])


def _reduced_axes(walk: Walk, node: NodeView, rank: int) -> set[int]:
    if node.op in ("ArgMax", "ArgMin"):
        return {int(node.attribute("axis", 0)) % rank}
    axes = node.attribute("axes")
    if axes is None and node.input(1):
        axes = stored(walk, node.input(1), "the axes").reshape(-1).tolist()
    if not axes:
        return set() if node.attribute("noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in axes}


def _transpose(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    order = list(node.attribute("perm") or range(fact.rank - 1, -1, -1))
    walk.each_copy(node, [(order.index(copies.axis), copies.blocks)])


def _reshape(walk: Walk, node: NodeView) -> None:
    """Operators that keep the order of a copy's elements: the copies stay where they were in it."""
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    result = fact_of(walk, node.outputs[0]).shape
    groups = shuffle_groups(walk, node)
    if groups:
        parts = walk.emit.regroup(
            copies.names, copies.axis, groups, fact.shape[copies.axis], f"{node.inputs[0]}@shuffle"
        )
        made = [walk.once(node, [part, *node.inputs[1:]])[0] for part in parts]
        walk.set(node.outputs[0], Copies(tuple(made), copies.axis + 1))
        return
    walk.each_copy(node, [flat_layout(fact.shape, copies, result)])


def flat_layout(shape: Sequence[int], copies: Copies, result: Sequence[int]) -> Layout:
    """Where the copies of a tensor of `shape` lie once it is reshaped to `result`: (axis, blocks).

    Raises:
        Boundary: no axis of the result can be beta times as large with whole copies in it.
    """
    assert copies.axis is not None
    inner = shape[copies.axis] // copies.blocks
    run = inner * int(np.prod(shape[copies.axis + 1 :], dtype=np.int64))
    if 0 in shape:
        raise Boundary("a reshape of an empty map says nothing of its channels")
    candidates = []
    stride = 1
    for axis in range(len(result) - 1, -1, -1):
        top = stride * result[axis]
        if run % stride == 0 and top % run == 0:
            candidates.append((axis, top // run))
        stride = top
    if not candidates:
        raise Boundary("a reshape cuts through the channels")
    # The axis that the channels begin; among axes of size 1 the one where they were.
    exact = [(axis, blocks) for axis, blocks in candidates if blocks == 1]
    if inner == 1 and copies.blocks == 1:
        same = [c for c in exact if c[0] == copies.axis and result[c[0]] == 1]
        ones = [c for c in exact if result[c[0]] == 1]
        return (same or ones or exact or candidates)[0]
    solid = [c for c in exact if result[c[0]] > 1]
    return (solid or exact or candidates)[0]


def _gather(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    axis = int(node.attribute("axis", 0)) % fact.rank
    if axis == copies.axis:
        raise Boundary("Gather picks channels")
    shift = fact_of(walk, node.inputs[1]).rank - 1 if axis < copies.axis else 0
    walk.each_copy(node, [(copies.axis + shift, copies.blocks)])


def _tile(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    if fact_of(walk, node.outputs[0]).shape[copies.axis] != fact.shape[copies.axis]:
        raise Boundary("Tile repeats channels")
    walk.each_copy(node, unmoved(copies, node))


def _softmax(walk: Walk, node: NodeView) -> None:
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    modern = walk.emit.opset >= 13
    axis = int(node.attribute("axis", -1 if modern else 1)) % fact.rank
    if axis == copies.axis or (not modern and copies.axis >= axis):
        raise Boundary(f"{node.op} depends on all channels")
    walk.each_copy(node, unmoved(copies, node))


def _shape(walk: Walk, node: NodeView) -> None:
    """The shape of a copy is what the source's operators see."""
    made = walk.once(node, [walk.read(node.inputs[0]).names[0]])
    walk.set(node.outputs[0], Copies(made))


_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor "
    "Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Floor "
    "Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where "
    "Xor"
)
_SPATIAL = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool InstanceNormalization LpPool MaxPool"
_REDUCTIONS = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
    "ReduceProd ReduceSum ReduceSumSquare"
)
_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_POINTWISE.split(), elementwise),
        **dict.fromkeys(_SPATIAL.split(), _spatial),
        **dict.fromkeys(_REDUCTIONS.split(), _reduce),
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
        **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
        **dict.fromkeys(("Shape", "Size"), _shape),
        **dict.fromkeys(("Resize", "Upsample"), _resize),
        "BatchNormalization": _batch_normalization,
        "Concat": carry_concat,
        "Gather": _gather,
        "Pad": carry_pad,
        "Slice": carry_slice,
        "Split": carry_split,
        "Tile": _tile,
        "Transpose": _transpose,
    }
)
