"""The shape of each operator's output, from those of its operands: for the operators that move, join and multiply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from reptran_compiler.model.symbolic.dimension import (
    Dimension,
    broadcast,
    ceildiv,
    exact_quotient,
    floordiv,
    maximum,
    minimum,
    product,
)
from reptran_compiler.model.symbolic.facts import Array, Call, Shape, constant_shape

ShapeRule = Callable[[Call], Sequence[Shape | None]]
"""From a node's operands to the shape of each output, as far as it is known (None: no shape)."""

ONE = Dimension.of(1)
FAR = 2**31 - 1  # ONNX: "to slice to the end of a dimension of unknown size, pass INT_MAX"; no axis is longer


def same(call: Call) -> list[Shape | None]:
    """The first operand's shape."""
    return [call.shape()]


def same_twice(call: Call) -> list[Shape | None]:
    """The first operand's shape, and a mask or indices of that shape."""
    return [call.shape(), call.shape()]


def elementwise(call: Call) -> list[Shape | None]:
    """All operands broadcast together."""
    shapes = [call.shape(i) for i in range(len(call.inputs))]
    known = [shape for shape in shapes if shape is not None]
    return [reduce(broadcast_shapes, known) if known and len(known) == len(shapes) else None]


def broadcast_shapes(a: Shape, b: Shape) -> Shape:
    """The common shape of two operands that are known to fit."""
    if a is b:
        return a
    if len(a) < len(b):
        a, b = b, a
    offset = len(a) - len(b)
    return a[:offset] + tuple(map(broadcast, a[offset:], b))


def normal_axis(axis: int, rank: int) -> int:
    """The axis counted from the front; ValueError if there is none."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def unsqueeze(call: Call) -> list[Shape | None]:
    """Axes of size 1 inserted."""
    shape, axes = call.shape(), call.numbers("axes", 1)
    if shape is None or axes is None:
        return [None]
    rank = len(shape) + len(axes)
    new = {normal_axis(axis, rank) for axis in axes}
    rest = iter(shape)
    return [tuple(ONE if i in new else next(rest) for i in range(rank))]


def squeeze(call: Call) -> list[Shape | None]:
    """Axes of size 1 removed: those asked for, or all; which these are has to be known."""
    shape, axes = call.shape(), call.numbers("axes", 1)
    if shape is None or (axes is None and call.has("axes", 1)):
        return [None]
    if axes is None:
        if constant_shape(shape) is None:
            return [None]
        return [tuple(size for size in shape if size != ONE)]
    gone = {normal_axis(axis, len(shape)) for axis in axes}
    return [tuple(size for i, size in enumerate(shape) if i not in gone)]


def reshape(call: Call) -> list[Shape | None]:
    """The target: 0 copies the operand's size (unless `allowzero`), -1 takes what is left.

    A computed size that may be 0 may mean a copy. It is taken for no copy where it is positive for dynamic axes of
    size 1 or more: here, and nowhere else, an axis is assumed not to be empty."""
    target, old = call.operand(1).value, call.shape()
    if target is None:
        length = constant_shape(call.shape(1))
        return [tuple(call.unknown(length[0])) if length is not None and len(length) == 1 else None]
    if target.ndim != 1:
        return [None]
    sizes, inferred, uncertain = call.unknown(target.size), None, False
    for i, size in enumerate(target):
        if size.constant == -1:
            inferred = i
        elif size.constant == 0 and not call.integer("allowzero", 0):
            if old is not None and i < len(old):
                sizes[i] = old[i]
            else:
                uncertain = True
        elif size.bounds(least=1)[0] >= (0 if call.integer("allowzero", 0) else 1):
            sizes[i] = size
        elif size.bounds()[0] >= 0 and old is not None and i < len(old) and old[i] == size:
            sizes[i] = size
        else:
            uncertain = True
    if inferred is not None and old is not None and not uncertain:
        rest = product(size for i, size in enumerate(sizes) if i != inferred)
        sizes[inferred] = floordiv(product(old), rest)
    return [tuple(sizes)]


def flatten(call: Call) -> list[Shape | None]:
    """The axes in front of `axis` as one, and the others as one."""
    shape = call.shape()
    if shape is None:
        return [None]
    axis = call.integer("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return [(product(shape[:axis]), product(shape[axis:]))]


def transpose(call: Call) -> list[Shape | None]:
    """The axes in the order of `perm`."""
    shape = call.shape()
    if shape is None:
        return [None]
    order = call.attributes.get("perm", range(len(shape))[::-1])
    return [tuple(shape[i] for i in order)]


def expand(call: Call) -> list[Shape | None]:
    """The operand broadcast to the target."""
    shape, target = call.shape(), call.operand(1).value
    if shape is None or target is None or target.ndim != 1:
        return [None]
    return [broadcast_shapes(shape, _sizes(target, call.unknown(target.size)))]


def constant_of_shape(call: Call) -> list[Shape | None]:
    """The operand's value is the shape."""
    value = call.operand(0).value
    if value is None or value.ndim != 1:
        length = constant_shape(call.shape())
        return [tuple(call.unknown(length[0])) if length is not None and len(length) == 1 else None]
    return [_sizes(value, call.unknown(value.size))]


def _sizes(elements: Array, unknown: Sequence[Dimension]) -> Shape:
    """Elements as sizes: unknown ones in place of those that might be negative."""
    pairs = zip(elements.flat, unknown, strict=True)
    return tuple(size if size.bounds()[0] >= 0 else other for size, other in pairs)


def concat(call: Call) -> list[Shape | None]:
    """Sizes along `axis` add up; of the others, the operand that tells most."""
    shapes = [call.shape(i) for i in range(len(call.inputs))]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return [None]
    axis = normal_axis(call.integer("axis", 1), len(known[0]))
    sizes = [next((s for s in column if s.constant is not None), column[0]) for column in zip(*known, strict=True)]
    sizes[axis] = sum((shape[axis] for shape in known[1:]), start=known[0][axis])
    return [tuple(sizes)]


def split(call: Call) -> list[Shape | None]:
    """The sizes asked for, or equal parts (the last one smaller, from opset 18 on)."""
    shape, parts = call.shape(), len(call.node.output)
    if shape is None:
        return [None] * parts
    axis = normal_axis(call.integer("axis", 0), len(shape))
    if "split" in call.attributes:
        sizes = [Dimension.of(size) for size in call.attributes["split"]]
    elif call.given(1):
        value = call.operand(1).value
        sizes = [call.unknown(len(shape), i)[axis] for i in range(parts)]
        if value is not None:
            sizes = list(_sizes(value, sizes))
    else:
        part = ceildiv(shape[axis], Dimension.of(parts))
        equal = exact_quotient(shape[axis], Dimension.of(parts)) or call.opset < 18
        last = part if equal else maximum(shape[axis] - part * (parts - 1), Dimension.of(0))
        sizes = [part] * (parts - 1) + [last]
    return [shape[:axis] + (size,) + shape[axis + 1 :] for size in sizes]


def sequence_parts(call: Call) -> list[Shape] | None:
    """The shapes of what a SplitToSequence makes, if their number is known."""
    shape, lengths = call.shape(), call.operand(1).constants
    if shape is None or (call.given(1) and lengths is None):
        return None
    axis = normal_axis(call.integer("axis", 0), len(shape))
    size = shape[axis].constant
    dropped = lengths is None and not call.integer("keepdims", 1)
    if lengths is None or call.shape(1) == ():  # one length for all parts: as many as fit, the last one smaller
        length = lengths[0] if lengths else 1
        if size is None or length < 1:
            return None
        lengths = [min(length, size - start) for start in range(0, size, length)]
    middle = ((() if dropped else (Dimension.of(length),)) for length in lengths)
    return [shape[:axis] + part + shape[axis + 1 :] for part in middle]


def slice_(call: Call) -> list[Shape | None]:
    """The bounds clamped to the axis, and every `step`-th of what lies between."""
    shape = call.shape()
    if shape is None:
        return [None]
    sizes = list(shape)
    spans = spans_of(call)
    if spans is None:
        return [tuple(call.unknown(len(shape)))]
    for axis, span in spans.items():
        sizes[axis] = call.unknown(axis + 1)[axis] if span is None else span[3]
    return [tuple(sizes)]


Span = tuple[Dimension, Dimension, int, Dimension]


def spans_of(call: Call) -> dict[int, Span | None] | None:
    """Of a Slice on an operand of known shape: for each axis that it cuts the normalised start, end, the step, and
    the size of the result; None for an axis where they are unknown, and in all where the axes are."""
    shape = call.shape()
    assert shape is not None
    if "starts" in call.attributes:
        starts, ends = ([Dimension.of(i) for i in call.attributes[name]] for name in ("starts", "ends"))
    else:
        first, last = call.operand(1).value, call.operand(2).value
        if first is None or last is None:
            return None
        starts, ends = list(first.flat), list(last.flat)
    axes = call.numbers("axes", 3) if call.has("axes", 3) else list(range(len(starts)))
    steps = call.operand(4).constants if call.given(4) else [1] * len(starts)
    if axes is None or steps is None:
        return None
    spans: dict[int, Span | None] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = normal_axis(axis, len(shape))
        spans[axis] = _span(start, end, step, shape[axis])
    return spans


def _span(start: Dimension, end: Dimension, step: int, size: Dimension) -> Span | None:
    zero = Dimension.of(0)
    if step > 0:
        first, last = _clamped(start, size, zero, size), _clamped(end, size, zero, size)
    elif end.constant is not None and end.constant >= FAR:
        return None  # nothing, says ONNX; everything, says onnxruntime
    elif start.constant is not None and (start.constant == -1 or start.constant >= FAR):
        if end.constant is not None and end.constant <= -FAR:
            return size - 1, Dimension.of(-1), step, ceildiv(size, Dimension.of(-step))
        return None
    elif size.bounds()[0] >= 1:
        first, last = _clamped(start, size, zero, size - 1), _clamped(end, size, Dimension.of(-1), size - 1)
    else:
        return None
    if first is None or last is None:
        return None
    return first, last, step, maximum(ceildiv(last - first, Dimension.of(step)), zero)


def _clamped(at: Dimension, size: Dimension, low: Dimension, high: Dimension) -> Dimension | None:
    """A bound counted from the front and clamped; None if it is not known from which side it counts."""
    if at.constant is not None and abs(at.constant) >= FAR:
        return high if at.constant > 0 else low
    least, most = at.bounds()
    if most < 0:
        at = at + size
    elif least < 0:
        return None
    return maximum(minimum(at, high), low)


def gather(call: Call) -> list[Shape | None]:
    """The indices' axes in place of the axis."""
    shape, indices = call.shape(), call.shape(1)
    if shape is None or indices is None:
        return [None]
    axis = normal_axis(call.integer("axis", 0), len(shape))
    return [shape[:axis] + indices + shape[axis + 1 :]]


def second(call: Call) -> list[Shape | None]:
    """The second operand's shape."""
    return [call.shape(1)]


def tile(call: Call) -> list[Shape | None]:
    """Each size times its number of repeats."""
    shape, repeats = call.shape(), call.operand(1).value
    if shape is None or repeats is None:
        return [None]
    return [tuple(size * times for size, times in zip(shape, repeats.flat, strict=True))]


def range_(call: Call) -> list[Shape | None]:
    """From the first operand to the second in steps of the third."""
    values = [call.operand(i).value for i in range(3)]
    if any(value is None or not isinstance(value.flat[0], Dimension) for value in values):
        return [tuple(call.unknown(1))]
    start, limit, step = (value.flat[0] for value in values if value is not None)
    if step.constant is None:
        return [tuple(call.unknown(1))]
    return [(maximum(ceildiv(limit - start, step), Dimension.of(0)),)]


def vector_of_rank(call: Call) -> list[Shape | None]:
    """The shape of a shape: as many as the operand has axes."""
    shape = call.shape()
    if shape is None:
        return [None]
    first, last = bounds_of_shape(call, len(shape))
    return [(Dimension.of(max(last - first, 0)),)]


def bounds_of_shape(call: Call, rank: int) -> tuple[int, int]:
    """Which axes a Shape asks for: from, and up to."""
    ends = call.integer("start", 0), call.integer("end", rank)
    first, last = (max(0, min(rank, end + rank if end < 0 else end)) for end in ends)
    return first, last


def scalar(call: Call) -> list[Shape | None]:
    """No axes."""
    return [()]


def reduction(call: Call) -> list[Shape | None]:
    """The axes that are reduced have size 1 or are gone."""
    shape = call.shape()
    if shape is None:
        return [None]
    axes = call.numbers("axes", 1)
    if axes is None and call.has("axes", 1):
        return [tuple(call.unknown(len(shape))) if call.integer("keepdims", 1) else None]
    if not axes and call.integer("noop_with_empty_axes", 0):
        return [shape]
    return [_reduced(call, shape, axes or range(len(shape)))]


def arg_reduction(call: Call) -> list[Shape | None]:
    """As a reduction over one axis."""
    shape = call.shape()
    return [None if shape is None else _reduced(call, shape, [call.integer("axis", 0)])]


def _reduced(call: Call, shape: Shape, axes: Sequence[int]) -> Shape:
    gone = {normal_axis(axis, len(shape)) for axis in axes}
    if call.integer("keepdims", 1):
        return tuple(ONE if i in gone else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in gone)


def gemm(call: Call) -> list[Shape | None]:
    """Rows of the first operand, columns of the second."""
    a, b = call.shape(), call.shape(1)
    if a is None or b is None:
        return [None]
    rows, columns = a[1 if call.integer("transA", 0) else 0], b[0 if call.integer("transB", 0) else 1]
    return [(rows, columns)]


def matmul(call: Call) -> list[Shape | None]:
    """As numpy's: the leading axes broadcast, a vector's own axis disappears."""
    a, b = call.shape(), call.shape(1)
    if not a or not b:
        return [None]
    stack = broadcast_shapes(a[:-2], b[:-2])
    return [stack + a[-2:-1] + (b[-1:] if len(b) > 1 else ())]
