"""Operators that move channels (THEORY section 2, item 3): applied to t^, whose result is cut into copies again."""

from __future__ import annotations

import numpy as np

from reptran_compiler.verification.carrying import Walk, fact_of, only_wide, stored, unmoved
from reptran_compiler.verification.copies import Boundary, Copies
from reptran_compiler.verification.protograph import NodeView, ProtoGraph


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
    before, middle = fact_of(walk, node.inputs[0]).shape, fact_of(walk, node.outputs[0]).shape
    axis = copies.axis
    if len(middle) < axis + 2 or middle[:axis] != before[:axis] or middle[axis] * middle[axis + 1] != before[axis]:
        return 0
    order = list(range(len(middle)))
    order[axis], order[axis + 1] = axis + 1, axis
    if list(swap.attribute("perm") or order[::-1]) != order or fact_of(walk, back.outputs[0]).shape != before:
        return 0
    return middle[axis]


def _only_reader(graph: ProtoGraph, name: str, op: str) -> NodeView | None:
    readers = graph.readers.get(name, ())
    if len(readers) != 1 or readers[0].op != op or readers[0].inputs[0] != name or name in graph.outputs:
        return None
    return readers[0]


def _recut(walk: Walk, name: str, made: str, axis: int) -> None:
    """Set a tensor to the copies that a widened operator's output is cut into."""
    channels = fact_of(walk, name).shape[axis]
    if channels == 0:
        raise Boundary("no channels are left")
    parts = walk.emit.split(made, [channels] * walk.beta, axis, f"{name}@")
    walk.set(name, Copies(parts, axis))


def carry_concat(walk: Walk, node: NodeView) -> None:
    """Concat of channels lets copies mix; along another axis, each copy on its own."""
    rank = fact_of(walk, node.outputs[0]).rank
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


def carry_split(walk: Walk, node: NodeView) -> None:
    """Split of channels, sizes times beta; along another axis, each copy on its own."""
    copies, fact = only_wide(walk, node)
    axis = int(node.attribute("axis", 0)) % fact.rank
    if axis != copies.axis:
        walk.each_copy(node, unmoved(copies, node))
        return
    if copies.blocks != 1:
        raise Boundary("Split of a map whose copies are interleaved")
    sizes = [fact_of(walk, name).shape[axis] * walk.beta for name in node.outputs]
    whole = walk.emit.concat(copies.names, axis, f"{node.inputs[0]}@whole")
    for name, made in zip(node.outputs, walk.emit.split(whole, sizes, axis, f"{node.name}@whole"), strict=True):
        _recut(walk, name, made, axis)


def carry_slice(walk: Walk, node: NodeView) -> None:
    """Slice of channels with step 1, bounds times beta; otherwise each copy on its own."""
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    axes, starts, ends, steps = _slice_bounds(walk, node, fact.rank)
    if copies.axis not in axes:
        walk.each_copy(node, unmoved(copies, node))
        return
    place = axes.index(copies.axis)
    size, step = fact.shape[copies.axis], steps[place]
    start, end = slice(starts[place], ends[place]).indices(size)[:2]
    end = max(start, end)
    if step != 1 or (start, end) == (0, size):
        if copies.blocks != 1 and step != 1:
            raise Boundary("Slice with a step of a map whose copies are interleaved")
        walk.each_copy(node, unmoved(copies, node))
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
    count = fact_of(walk, node.inputs[1]).shape[0]
    axes_name, steps_name = node.input(3), node.input(4)
    axes = stored(walk, axes_name, "the axis").reshape(-1).tolist() if axes_name else list(range(count))
    axes = [int(axis) % rank for axis in axes]
    if channel not in axes:
        return axes, [], [], []
    starts = stored(walk, node.inputs[1], "the start").reshape(-1).tolist()
    ends = stored(walk, node.inputs[2], "the end").reshape(-1).tolist()
    steps = stored(walk, steps_name, "the step").reshape(-1).tolist() if steps_name else [1] * count
    return axes, starts, ends, steps


def carry_pad(walk: Walk, node: NodeView) -> None:
    """Pad of channels, beta times the pads; of other axes, each copy on its own."""
    copies, fact = only_wide(walk, node)
    assert copies.axis is not None
    rank, emit = fact.rank, walk.emit
    given = node.attribute("pads")
    short = list(given) if given is not None else stored(walk, node.input(1), "the padding").reshape(-1).tolist()
    axes = list(range(rank))
    if node.input(3):
        axes = [int(axis) % rank for axis in stored(walk, node.input(3), "the axis").reshape(-1).tolist()]
    pads = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = int(short[place]), int(short[len(axes) + place])
    if pads[copies.axis] == pads[rank + copies.axis] == 0:
        walk.each_copy(node, unmoved(copies, node))
        return
    if copies.blocks != 1:
        raise Boundary("Pad of a map whose copies are interleaved")
    if node.attribute("mode", "constant") != "constant":
        raise Boundary("Pad of channels with the values of others")
    pads[copies.axis] *= walk.beta
    pads[rank + copies.axis] *= walk.beta
    whole = emit.concat(copies.names, copies.axis, f"{node.inputs[0]}@whole")
    wish, mode = f"{node.outputs[0]}@whole", node.attribute("mode", "constant")
    if given is None:
        amounts = emit.constant(np.array(pads, dtype=np.int64), "pads")
        made = emit.add("Pad", [whole, amounts, *node.inputs[2:3]], wish, mode=mode)
    else:
        made = emit.add("Pad", [whole], wish, mode=mode, pads=pads, value=float(node.attribute("value", 0.0)))
    _recut(walk, node.outputs[0], made, copies.axis)
