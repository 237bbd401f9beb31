"""Values of large computed tensors in blocks of rows: entries along the first axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.rewriting.region import Region, extract, makers

#: How many elements a block has, about: they and what is computed on the way stay in a processor's cache.
_BLOCK = 1 << 18
#: Blocks begin at multiples of so many rows, of so many bytes in whatever type: sums over a row, which add up other
#: terms first where they begin elsewhere, are those of the whole tensor.
_STEP = 64

#: Operators that round once: they give the same for an element wherever it stands.
_ELEMENTWISE = frozenset(
    "Abs Add Cast Clip Div Equal Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mul Neg Not Sign Sqrt Sub "
    "Where".split()
)
_REDUCES = frozenset("ReduceMax ReduceMean ReduceMin ReduceL1 ReduceL2 ReduceSum ReduceSumSquare".split())

Array = NDArray[Any]
Shape = tuple[int, ...]


def blocks(shape: Shape) -> Iterator[slice]:
    """The rows of an array of some shape, block by block."""
    if not shape:
        yield slice(None)
        return
    step = max(_STEP, _BLOCK // max(1, math.prod(shape[1:])) // _STEP * _STEP)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def aligned(values: Array) -> Array:
    """A copy of an array that begins at a multiple of `_STEP` bytes, as onnxruntime's own tensors do."""
    room = np.empty(values.nbytes + _STEP, np.uint8)
    start = -room.ctypes.data % _STEP
    made: Array = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    return made


def in_rows(
    graph: Graph, tensor: Tensor, shape_of: Callable[[Tensor], Shape], axes_of: Callable[[Node], Sequence[int] | None]
) -> Region | None:
    """What computes each row of a tensor from the same rows of stored tensors: a region that is fed with those.

    Args:
        graph: the graph.
        tensor: a tensor that is computed from stored ones alone.
        shape_of: the shape of a tensor.
        axes_of: the axes that a reducing operator takes away, counted from the left; None where they are not known.

    Returns:
        The region; None where a row may depend on others.
    """
    shape = shape_of(tensor)
    if len(shape) < 2 or shape[0] <= _STEP:
        return None
    rows: set[int] = set()  # ids of the tensors that have these rows; others are the same for all rows

    def has_rows(each: Tensor) -> bool:
        form = shape_of(each)
        return len(form) == len(shape) and form[0] == shape[0]

    for node in makers(tensor):
        reads = [each for each in node.inputs if each.name]
        rows.update(id(each) for each in reads if isinstance(each, Constant) and has_rows(each))
        if not any(id(each) in rows for each in reads):
            continue
        if node.op_type in _REDUCES:
            axes = (
                axes_of(node) if node.attrs.get("keepdims", 1) and not any(id(e) in rows for e in reads[1:]) else None
            )
            fits = axes is not None and len(axes) > 0 and 0 not in axes
        else:
            others = [shape_of(each) for each in reads if id(each) not in rows]
            fits = node.op_type in _ELEMENTWISE and all(_is_broadcast(form, shape) for form in others)
        if not fits or len(node.outputs) != 1 or not has_rows(node.outputs[0]):
            return None
        rows.add(id(node.outputs[0]))
    if id(tensor) not in rows or isinstance(tensor, Constant):
        return None
    return extract(graph, [tensor], lambda each: False, fed=lambda each: id(each) in rows)


def _is_broadcast(form: Shape, shape: Shape) -> bool:
    """Whether an operand of some form is the same for all rows of an array of a shape."""
    return len(form) < len(shape) or (len(form) == len(shape) and form[0] == 1)
