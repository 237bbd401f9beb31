"""How each operator of the source acts on copies (THEORY section 2, item 3, and what needs no item).

A rule is a function of the walk and the node. It emits the node's copies and sets its outputs, or raises
`Boundary` with the reason why the operator depends on other channels. An operator without a rule is a
boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.copies import Boundary, Copies, Emitter
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]
Layout = tuple[int, int]


class Walk(Protocol):
    """What a rule sees of the walk through the source."""

    graph: ProtoGraph
    facts: Mapping[str, TensorFact]
    emit: Emitter
    beta: int

    def read(self, name: str) -> Copies:
        """The copies of a tensor that readers of it read."""

    def each_copy(self, node: NodeView, layouts: Sequence[Layout | None]) -> None:
        """Emit the node once for each copy; the outputs are wide with the (axis, blocks) given, or narrow."""

    def once(self, node: NodeView, inputs: Sequence[str]) -> tuple[str, ...]:
        """Emit the node once, with other inputs, under fresh output names; these names."""

    def set(self, name: str, copies: Copies) -> None:
        """Say what a tensor of the source is."""


Rule = Callable[[Walk, NodeView], None]


def rules() -> Mapping[str, Rule]:
    """The rule of every operator that has one, by operator type."""
    return _RULES


def _fact(walk: Walk, name: str) -> TensorFact:
    if name not in walk.facts:
        raise Boundary(f"the shape of {name!r} is unknown")
    return walk.facts[name]


def _data(walk: Walk, node: NodeView) -> tuple[Copies, TensorFact]:
    """The first input, which has to be the only wide one, with its shape."""
    copies = walk.read(node.inputs[0])
    if not copies.wide or any(name and walk.read(name).wide for name in node.inputs[1:]):
        raise Boundary(f"{node.op} reads a wide map where parameters belong")
    return copies, _fact(walk, node.inputs[0])


def _same(copies: Copies, node: NodeView) -> list[Layout | None]:
    assert copies.axis is not None
    return [(copies.axis, copies.blocks)] * len(node.outputs)


def _constant(walk: Walk, name: str, what: str) -> Array:
    if name not in walk.graph.constants:
        raise Boundary(f"{what} of a channel operator is computed at run time")
    return walk.graph.value(name)


def elementwise(walk: Walk, node: NodeView) -> None:
    """Operators that broadcast their operands: each copy on its own, narrow operands shared."""
    places = set()
    for name in node.inputs:
        copies = walk.read(name) if name else Copies(("",))
        if copies.axis is not None:
            places.add((_fact(walk, name).rank - copies.axis, copies.blocks))
    if len(places) != 1:
        raise Boundary("its operands carry channels on different axes")
    from_right, blocks = places.pop()
    walk.each_copy(
        node, [(_fact(walk, name).rank - from_right, blocks) if name else None for name in node.outputs]
    )


def _spatial(walk: Walk, node: NodeView) -> None:
    """Operators on (N, C, space) that treat every channel alike and apart."""
    copies, _ = _data(walk, node)
    if copies.axis != 1 or copies.blocks != 1:
        raise Boundary(f"{node.op} works across the channels, which are not on axis 1")
    if any(node.outputs[1:]):
        raise Boundary(f"the second output of {node.op} numbers the elements of all channels")
    walk.each_copy(node, [(1, 1)])


def _batch_normalization(walk: Walk, node: NodeView) -> None:
    copies, _ = _data(walk, node)
    assert copies.axis is not None
    training = bool(node.attribute("training_mode", 0)) or any(node.outputs[1:])
    if training and copies.axis != 1:
        raise Boundary("BatchNormalization takes statistics across the channels, which are not on axis 1")
    walk.each_copy(node, [(copies.axis, copies.blocks), *[(0, 1)] * (len(node.outputs) - 1)])


def _resize(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    if _fact(walk, node.outputs[0]).shape[copies.axis] != fact.shape[copies.axis]:
        raise Boundary(f"{node.op} changes the number of channels")
    walk.each_copy(node, _same(copies, node))


def _reduce(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
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
        axes = _constant(walk, node.input(1), "the axes").reshape(-1).tolist()
    if not axes:
        return set() if node.attribute("noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in axes}


def _transpose(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    order = list(node.attribute("perm") or range(fact.rank - 1, -1, -1))
    walk.each_copy(node, [(order.index(copies.axis), copies.blocks)])


def _reshape(walk: Walk, node: NodeView) -> None:
    """Operators that keep the order of a copy's elements: the copies stay where they were in it."""
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    result = _fact(walk, node.outputs[0]).shape
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


def shuffle_groups(walk: Walk, node: NodeView) -> int:
    """The number of groups if a Reshape begins a channel shuffle, 0 if it does not.

    A shuffle is Reshape, Transpose, Reshape with nothing else reading what lies between: the channel axis is
    split in two, the two are swapped, and the first shape is restored.
    """
    if node.op != "Reshape":
        return 0
    copies, graph = walk.read(node.inputs[0]), walk.graph
    swap = _only_reader(graph, node.outputs[0], "Transpose")
    back = _only_reader(graph, swap.outputs[0], "Reshape") if swap is not None else None
    if swap is None or back is None or copies.axis is None or copies.blocks != 1:
        return 0
    before, middle = _fact(walk, node.inputs[0]).shape, _fact(walk, node.outputs[0]).shape
    axis = copies.axis
    if (
        len(middle) < axis + 2
        or middle[:axis] != before[:axis]
        or middle[axis] * middle[axis + 1] != before[axis]
    ):
        return 0
    order = list(range(len(middle)))
    order[axis], order[axis + 1] = axis + 1, axis
    if list(swap.attribute("perm") or order[::-1]) != order or _fact(walk, back.outputs[0]).shape != before:
        return 0
    return middle[axis]


def _only_reader(graph: ProtoGraph, name: str, op: str) -> NodeView | None:
    readers = graph.readers.get(name, ())
    if len(readers) != 1 or readers[0].op != op or readers[0].inputs[0] != name or name in graph.outputs:
        return None
    return readers[0]


def _recut(walk: Walk, name: str, made: str, axis: int) -> None:
    """Set a tensor to the copies that a widened operator's output is cut into."""
    channels = _fact(walk, name).shape[axis]
    if channels == 0:
        raise Boundary("no channels are left")
    parts = walk.emit.split(made, [channels] * walk.beta, axis, f"{name}@")
    walk.set(name, Copies(parts, axis))


def _concat(walk: Walk, node: NodeView) -> None:
    rank = _fact(walk, node.outputs[0]).rank
    join = int(node.attribute("axis", 1)) % rank
    layouts = {(c.axis, c.blocks) for c in map(walk.read, node.inputs) if c.axis is not None}
    if len(layouts) != 1:
        raise Boundary("its operands carry channels on different axes")
    axis, blocks = layouts.pop()
    assert axis is not None
    if axis != join:
        walk.each_copy(node, [(axis, blocks)])
        return
    if blocks != 1:
        raise Boundary("Concat of maps whose copies are interleaved")
    parts = [walk.read(name).at(r) for name in node.inputs for r in range(walk.beta)]
    made = walk.emit.concat(parts, axis, f"{node.outputs[0]}@whole")
    _recut(walk, node.outputs[0], made, axis)


def _split(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    axis = int(node.attribute("axis", 0)) % fact.rank
    if axis != copies.axis:
        walk.each_copy(node, _same(copies, node))
        return
    if copies.blocks != 1:
        raise Boundary("Split of a map whose copies are interleaved")
    sizes = [_fact(walk, name).shape[axis] * walk.beta for name in node.outputs]
    whole = walk.emit.concat(copies.names, axis, f"{node.inputs[0]}@whole")
    for name, made in zip(
        node.outputs, walk.emit.split(whole, sizes, axis, f"{node.name}@whole"), strict=True
    ):
        _recut(walk, name, made, axis)


def _slice(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    axes, starts, ends, steps = _slice_bounds(walk, node, fact.rank)
    if copies.axis not in axes:
        walk.each_copy(node, _same(copies, node))
        return
    place = axes.index(copies.axis)
    size, step = fact.shape[copies.axis], steps[place]
    start, end = slice(starts[place], ends[place]).indices(size)[:2]
    end = max(start, end)
    if step != 1 or (start, end) == (0, size):
        if copies.blocks != 1 and step != 1:
            raise Boundary("Slice with a step of a map whose copies are interleaved")
        walk.each_copy(node, _same(copies, node))
        return
    if copies.blocks != 1:
        raise Boundary("Slice of a map whose copies are interleaved")
    starts[place], ends[place] = start * walk.beta, end * walk.beta
    emit = walk.emit
    whole = emit.concat(copies.names, copies.axis, f"{node.inputs[0]}@whole")
    wish = f"{node.outputs[0]}@whole"
    if emit.opset >= 10:
        bounds = [emit.constant(np.array(v, dtype=np.int64), "bounds") for v in (starts, ends, axes, steps)]
        made = emit.add("Slice", [whole, *bounds], wish)
    else:
        made = emit.add("Slice", [whole], wish, starts=starts, ends=ends, axes=axes)
    _recut(walk, node.outputs[0], made, copies.axis)


def _slice_bounds(walk: Walk, node: NodeView, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Axes, starts, ends and steps of a Slice; off the channel axis they may be computed at run time."""
    channel = walk.read(node.inputs[0]).axis
    if len(node.inputs) == 1:
        starts, ends = list(node.attribute("starts")), list(node.attribute("ends"))
        axes = list(node.attribute("axes") or range(len(starts)))
        return [int(a) % rank for a in axes], starts, ends, [1] * len(starts)
    count = _fact(walk, node.inputs[1]).shape[0]
    axes_name, steps_name = node.input(3), node.input(4)
    axes = _constant(walk, axes_name, "the axis").reshape(-1).tolist() if axes_name else list(range(count))
    axes = [int(axis) % rank for axis in axes]
    if channel not in axes:
        return axes, [], [], []
    starts = _constant(walk, node.inputs[1], "the start").reshape(-1).tolist()
    ends = _constant(walk, node.inputs[2], "the end").reshape(-1).tolist()
    steps = _constant(walk, steps_name, "the step").reshape(-1).tolist() if steps_name else [1] * count
    return axes, starts, ends, steps


def _pad(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    rank, emit = fact.rank, walk.emit
    stored = node.attribute("pads")
    short = (
        list(stored)
        if stored is not None
        else _constant(walk, node.input(1), "the padding").reshape(-1).tolist()
    )
    axes = list(range(rank))
    if node.input(3):
        axes = [int(axis) % rank for axis in _constant(walk, node.input(3), "the axis").reshape(-1).tolist()]
    pads = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = int(short[place]), int(short[len(axes) + place])
    if pads[copies.axis] == pads[rank + copies.axis] == 0:
        walk.each_copy(node, _same(copies, node))
        return
    if copies.blocks != 1:
        raise Boundary("Pad of a map whose copies are interleaved")
    if node.attribute("mode", "constant") != "constant":
        raise Boundary("Pad of channels with the values of others")
    pads[copies.axis] *= walk.beta
    pads[rank + copies.axis] *= walk.beta
    whole = emit.concat(copies.names, copies.axis, f"{node.inputs[0]}@whole")
    wish, mode = f"{node.outputs[0]}@whole", node.attribute("mode", "constant")
    if stored is None:
        amounts = emit.constant(np.array(pads, dtype=np.int64), "pads")
        made = emit.add("Pad", [whole, amounts, *node.inputs[2:3]], wish, mode=mode)
    else:
        made = emit.add("Pad", [whole], wish, mode=mode, pads=pads, value=float(node.attribute("value", 0.0)))
    _recut(walk, node.outputs[0], made, copies.axis)


def _gather(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    axis = int(node.attribute("axis", 0)) % fact.rank
    if axis == copies.axis:
        raise Boundary("Gather picks channels")
    shift = _fact(walk, node.inputs[1]).rank - 1 if axis < copies.axis else 0
    walk.each_copy(node, [(copies.axis + shift, copies.blocks)])


def _tile(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    if _fact(walk, node.outputs[0]).shape[copies.axis] != fact.shape[copies.axis]:
        raise Boundary("Tile repeats channels")
    walk.each_copy(node, _same(copies, node))


def _softmax(walk: Walk, node: NodeView) -> None:
    copies, fact = _data(walk, node)
    assert copies.axis is not None
    modern = walk.emit.opset >= 13
    axis = int(node.attribute("axis", -1 if modern else 1)) % fact.rank
    if axis == copies.axis or (not modern and copies.axis >= axis):
        raise Boundary(f"{node.op} depends on all channels")
    walk.each_copy(node, _same(copies, node))


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
        "Concat": _concat,
        "Gather": _gather,
        "Pad": _pad,
        "Slice": _slice,
        "Split": _split,
        "Tile": _tile,
        "Transpose": _transpose,
    }
)
