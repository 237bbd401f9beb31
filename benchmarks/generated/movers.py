"""Operators that move, pick, repeat, pool or resize: along channels, where copies may mix, and in space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from onnx import TensorProto

from benchmarks.generated.binary import spelled_sign
from benchmarks.generated.blocks import WIDEST, Block, padded_channels
from benchmarks.generated.builder import Builder, Map
from benchmarks.generated.layers import add, concat, norm
from benchmarks.generated.spelling import channels, pad, reduce, shape_of, slices, split, squeeze, unsqueeze


def _same(x: Map, name: str) -> Map:
    return Map(name, x.channels, x.space)


def every_second(b: Builder, x: Map) -> Map:
    """The even channels beside the odd ones, by Slices with a step."""
    b.need(x.channels % 2 == 0, b.opset >= 10)
    end = b.pick((x.channels, 2**31 - 1))
    parts = [channels(b, x.name, start, end, step=2) for start in (0, 1)]
    return concat(b, [Map(part, x.channels // 2, x.space) for part in parts])


def backwards(b: Builder, x: Map) -> Map:
    """The channels in reverse order, by a Slice with step -1, added to the map."""
    b.need(b.opset >= 10)
    return add(b, x, _same(x, channels(b, x.name, -1, -(2**31), step=-1)))


def equal_parts(b: Builder, x: Map) -> Map:
    """A Split without sizes, its parts changed over."""
    b.need(x.channels % 2 == 0)
    count = {"num_outputs": 2} if b.opset >= 18 else {}
    first, second = b.many("Split", [x.name], 2, axis=1, **count)
    return _same(x, b.add("Concat", [second, first], axis=1))


def sequence(b: Builder, x: Map) -> Map:
    """SplitToSequence and SequenceAt, as dynamo writes `chunk`."""
    b.need(b.opset >= 11, x.channels % 2 == 0)
    half = b.store(np.array(x.channels // 2, np.int64), "half")
    parts = b.add("SplitToSequence", [x.name, half], axis=1)
    places = [b.store(np.array(place, np.int64), "place") for place in (1, 0)]
    return _same(x, b.add("Concat", [b.add("SequenceAt", [parts, place]) for place in places], axis=1))


def twice(b: Builder, x: Map) -> Map:
    """A map beside itself."""
    b.need(2 * x.channels <= WIDEST)
    return concat(b, [x, x])


def more_channels(b: Builder, x: Map, value: float | None) -> Map:
    """Channels of one value on both sides."""
    b.need(x.channels + b.unit <= WIDEST)
    return padded_channels(b, x, b.choices.integer(0, b.unit), x.channels + b.unit, value)


def pad_axes(b: Builder, x: Map) -> Map:
    """A Pad that names its axes: channels and the last axis, which is cut again."""
    b.need(b.opset >= 18, x.channels + b.unit <= WIDEST)
    made = b.add("Pad", [x.name, b.ints(0, 1, b.unit, 0), "", b.ints(1, -1)])
    cut = slices(b, made, [1], [2**31 - 1], [-1])
    return Map(cut, x.channels + b.unit, x.space)


def pad_space(b: Builder, x: Map, mode: str) -> Map:
    """A row of neighbours on one side and none on the other, cut again on the other."""
    b.need(min(x.space) >= 2)
    made = pad(b, x.name, [0, 0, 1, *[0] * (b.axes - 1), 0, 0, *[0] * b.axes], mode=mode)
    return _same(x, slices(b, made, [0], [-1], [2]))


def split_space(b: Builder, x: Map) -> Map:
    """The rows in two parts, changed over."""
    b.need(not b.free, x.space[0] >= 2)
    first, rest = split(b, x.name, [1, x.space[0] - 1], axis=2)
    return _same(x, b.add("Concat", [rest, first], axis=2))


def slice_space(b: Builder, x: Map) -> Map:
    """All rows but none, to an end that is computed from the map's shape."""
    b.need(b.opset >= 10)
    index = b.store(np.array([2], np.int64), "index")
    end = b.add("Gather", [b.add("Shape", [x.name]), index], axis=0)
    return _same(x, b.add("Slice", [x.name, b.ints(0), end, b.ints(2)]))


def gather_space(b: Builder, x: Map) -> Map:
    """The rows in reverse order."""
    b.need(not b.free)
    order = b.store(np.arange(x.space[0])[::-1].astype(np.int64).copy(), "rows")
    return _same(x, b.add("Gather", [x.name, order], axis=2))


def tile_space(b: Builder, x: Map) -> Map:
    """The rows twice, one after the other, and the first time of it."""
    b.need(not b.free)
    tiled = b.add("Tile", [x.name, b.ints(1, 1, 2, *[1] * (b.axes - 1))])
    return _same(x, slices(b, tiled, [0], [x.space[0]], [2]))


def expand_space(b: Builder, x: Map) -> Map:
    """A maximum for each channel, expanded to the map's shape."""
    b.need(b.has("Expand"))
    top = b.add("GlobalMaxPool", [x.name])
    return add(b, x, _same(x, b.add("Expand", [top, shape_of(b, x, x.channels)])))


def resize(b: Builder, x: Map, how: str) -> Map:
    """Twice as large, and pooled down again."""
    space = tuple(2 * each for each in x.space)
    scales = [1.0, 1.0, *[2.0] * b.axes]
    if how == "Upsample":
        b.need(b.opset < 10, b.axes == 2)
        stored = [] if b.opset < 9 else [b.store(np.array(scales, np.float32), "scales")]
        made = b.add("Upsample", [x.name, *stored], mode="nearest", **({} if stored else {"scales": scales}))
    elif b.opset < 11:
        b.need(b.opset == 10, how == "scales", b.axes == 2)
        made = b.add("Resize", [x.name, b.store(np.array(scales, np.float32), "scales")], mode="nearest")
    else:
        b.need(how != "sizes" or not (b.free or b.batch is None))
        none = "" if b.opset >= 13 else b.store(np.zeros(0, np.float32), "none")
        sizes = [b.store(np.array(scales, np.float32), "scales")]
        if how == "sizes":
            sizes = [none, b.ints(b.batch or 1, x.channels, *space)]
        mode = "linear" if how == "linear" else "nearest"
        made = b.add("Resize", [x.name, none, *sizes], mode=mode)
    op = b.pick(("MaxPool", "AveragePool"))
    pooled = b.add(op, [made], kernel_shape=[2] * b.axes, strides=[2] * b.axes)
    return _same(x, pooled)


def channels_last(b: Builder, x: Map, kind: str) -> Map:
    """A bias and an activation with the channels on the last axis, between two Transposes."""
    y = b.add("Transpose", [x.name], perm=[0, *range(2, 2 + b.axes), 1])
    y = b.add("Add", [y, b.store(b.normal(x.channels), "last")])
    if kind == "Sign":
        # Without its space the map is one for which no dense constants are written.
        y = spelled_sign(b, Map(y, x.channels, ()), b.variant("sign"))
    else:
        y = b.add("Tanh", [y])
    return _same(x, b.add("Transpose", [y], perm=[0, 1 + b.axes, *range(1, 1 + b.axes)]))


def flat_and_back(b: Builder, x: Map, how: str) -> Map:
    """The map as [N, C * space], or as [N, C, space], and back."""
    first = b.ints(0, x.channels, -1) if how == "rows" else b.ints(0, -1)
    y = b.add("Reshape", [x.name, first])
    return _same(x, b.add("Reshape", [b.add("Tanh", [y]), shape_of(b, x, x.channels)]))


def new_axis(b: Builder, x: Map) -> Map:
    """An axis of size 1 more, and gone again."""
    return _same(x, squeeze(b, b.add("Tanh", [unsqueeze(b, x.name, 2 + b.axes)]), 2 + b.axes))


def turned_space(b: Builder, x: Map) -> Map:
    """Height and width changed over."""
    b.need(b.axes >= 2)
    perm = [0, 1, 3, 2, *range(4, 2 + b.axes)]
    return Map(b.add("Transpose", [x.name], perm=perm), x.channels, (x.space[1], x.space[0], *x.space[2:]))


def pool_kind(b: Builder, x: Map, kind: str) -> Map:
    """A pooling of size 3 and stride 1 in one of its forms, which keeps the size."""
    op = "LpPool" if kind == "LpPool" else "AveragePool" if kind.startswith("Average") else "MaxPool"
    attributes: dict[str, object] = {"kernel_shape": [3] * b.axes, "pads": [1] * 2 * b.axes, "strides": [1] * b.axes}
    if kind == "AveragePool, padding counted":
        attributes["count_include_pad"] = 1
    elif kind == "MaxPool, ceil_mode":
        b.need(b.opset >= 10)
        attributes["ceil_mode"] = 1
    elif kind == "MaxPool, dilated":
        b.need(b.opset >= 10, b.axes < 3)
        attributes |= {"dilations": [2] * b.axes, "pads": [2] * 2 * b.axes}
    elif kind == "MaxPool, SAME":
        del attributes["pads"]
        attributes["auto_pad"] = "SAME_UPPER"
    elif kind == "LpPool":
        b.need(b.axes == 2)
    if kind == "MaxPool, indices":
        b.need(b.opset >= 8)
        return _same(x, b.many(op, [x.name], 2, **attributes)[0])
    return _same(x, b.add(op, [x.name], **attributes))


def summed_pool(b: Builder, x: Map) -> Map:
    """The mean over space as JAX writes it, ReduceSum and Div, added to the map."""
    b.need(not b.free)
    total = reduce(b, "ReduceSum", x.name, list(range(2, 2 + b.axes)))
    mean = b.add("Div", [total, b.scalar(float(np.prod(x.space)))])
    return _same(x, b.add("Add", [x.name, mean]))


def global_pool(b: Builder, x: Map, op: str) -> Map:
    """A global pooling, added to the map."""
    # onnxruntime has no kernel of the later version.
    b.need(op != "GlobalLpPool" or b.opset < 22)
    return _same(x, b.add("Add", [x.name, b.add(op, [x.name])]))


def counted(b: Builder, x: Map) -> Map:
    """A map over the number of its elements."""
    count = b.add("Cast", [b.add("Size", [x.name])], to=TensorProto.FLOAT)
    return norm(b, _same(x, b.add("Div", [x.name, count])))


def numbered(b: Builder, x: Map) -> Map:
    """The number of the highest row, as a factor."""
    found = b.add("ArgMax", [x.name], axis=2, keepdims=1)
    return _same(x, b.add("Mul", [x.name, b.add("Cast", [found], to=TensorProto.FLOAT)]))


_POOLS = (
    "MaxPool, padded",
    "MaxPool, ceil_mode",
    "MaxPool, dilated",
    "MaxPool, SAME",
    "MaxPool, indices",
    "AveragePool, padded",
    "AveragePool, padding counted",
    "LpPool",
)

MOVERS: Mapping[str, Block] = {
    "Slice of channels, step 2": every_second,
    "Slice of channels, backwards": backwards,
    "Split, equal parts": equal_parts,
    "SplitToSequence": sequence,
    "Concat of a map with itself": twice,
    "Pad of channels, zeros": partial(more_channels, value=None),
    "Pad of channels, a value": partial(more_channels, value=0.25),
    "Pad with axes": pad_axes,
    **{f"Pad of space, {mode}": partial(pad_space, mode=mode) for mode in ("reflect", "edge")},
    "Split and Concat of space": split_space,
    "Slice of space, computed": slice_space,
    "Gather in space": gather_space,
    "Tile in space": tile_space,
    "Expand in space": expand_space,
    "Resize by scales": partial(resize, how="scales"),
    "Resize to sizes": partial(resize, how="sizes"),
    "Resize, linear": partial(resize, how="linear"),
    "Upsample": partial(resize, how="Upsample"),
    "channels last, bias": partial(channels_last, kind="bias"),
    "channels last, sign": partial(channels_last, kind="Sign"),
    "Reshape to rows and back": partial(flat_and_back, how="rows"),
    "Reshape to a vector and back": partial(flat_and_back, how="vector"),
    "Unsqueeze and Squeeze": new_axis,
    "Transpose of space": turned_space,
    **{kind: partial(pool_kind, kind=kind) for kind in _POOLS},
    "mean by ReduceSum and Div": summed_pool,
    **{op: partial(global_pool, op=op) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    "ArgMax in space": numbered,
    "divided by Size": counted,
}
