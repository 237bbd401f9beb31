"""Values of large computed tensors in blocks of rows: entries along the first axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.model import Constant, Node, Tensor
from reptran_compiler.model.protos import element_dtype

#: How many elements a block has, about: they and what is computed on the way stay in a processor's cache.
_BLOCK = 1 << 18
#: Blocks begin at multiples of so many rows, of so many bytes in whatever type: sums over a row, which add up other
#: terms first where they begin elsewhere, are those of the whole tensor.
_STEP = 64
#: So few terms are added up from the first to the last, whoever does it.
_FEW = 3

Array = NDArray[Any]
Shape = tuple[int, ...]

#: Operators that round once, so that an element is the same wherever it stands and whoever computes it.
_EXACT: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Div": np.divide,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": np.asarray,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Where": lambda mask, one, other: np.where(mask, one + 0, other),  # as onnxruntime, which takes -0 for 0 here
}
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
_REDUCES = frozenset("ReduceMax ReduceMean ReduceMin ReduceL1 ReduceL2 ReduceSum ReduceSumSquare".split())


def blocks(shape: Shape) -> Iterator[slice]:
    """The rows of an array of some shape, block by block.

    The last block has what would be a small one behind it: onnxruntime adds up a single row in another order.
    """
    step = max(_STEP, _BLOCK // max(1, math.prod(shape[1:])) // _STEP * _STEP)
    starts = range(0, max(1, shape[0] - _STEP + 1), step)
    for start, end in zip(starts, (*starts[1:], shape[0]), strict=True):
        yield slice(start, end)


@dataclass(frozen=True)
class Rows:
    """What computes each row of a tensor from the same rows of stored tensors.

    Attributes:
        tensor: the tensor.
        nodes: the operators on the way, makers first.
        stored: the stored tensors that have its rows.
        others: the values of what they read besides, by `id`: the same for all rows.
        axes: of the operators that reduce, the axes, by the operator's `id`.
    """

    tensor: Tensor
    nodes: tuple[Node, ...]
    stored: tuple[Constant, ...]
    others: Mapping[int, Array]
    axes: Mapping[int, tuple[int, ...]]

    def gives(self, tensor: Tensor) -> bool:
        """Whether the rows of a tensor are found on the way to those of this one."""
        return any(tensor is each for each in (*self.stored, *(node.outputs[0] for node in self.nodes)))

    def computed(self, reduce: Callable[[Node, Array], Array]) -> Callable[[slice], Mapping[int, Array]]:
        """What gives some rows of the tensor, and of all that it is computed from, by `id`.

        Args:
            reduce: computes an operator that reduces, of one row or several.
        """
        readers = {id(each): each.reader() for each in self.stored}

        def compute(block: slice) -> Mapping[int, Array]:
            values = dict(self.others)
            values.update((key, read(block)) for key, read in readers.items())
            for node in self.nodes:
                if id(node) in self.axes:
                    made = self._reduced(node, values[id(node.inputs[0])], reduce)
                else:
                    made = _exact(node, [values[id(each)] for each in node.inputs if each.name])
                values[id(node.outputs[0])] = made
            return values

        return compute

    def _reduced(self, node: Node, values: Array, reduce: Callable[[Node, Array], Array]) -> Array:
        axes = self.axes[id(node)]
        terms = values.shape[axes[0]]
        if node.op_type != "ReduceMean" or len(axes) > 1 or not 0 < terms <= _FEW:
            return reduce(node, values)
        first = np.moveaxis(values, axes[0], 0)
        total, *rest = (np.moveaxis(first[term : term + 1], 0, axes[0]) for term in range(terms))
        for term in rest:
            total = total + term
        mean: Array = total / values.dtype.type(terms)
        return mean


def in_rows(
    nodes: list[Node],
    tensor: Tensor,
    shape_of: Callable[[Tensor], Shape],
    value_of: Callable[[Tensor], Array | None],
) -> Rows | None:
    """What computes the rows of a tensor each by itself; None where a row may depend on others, or is not known to be
    the same when it is computed by itself.

    Args:
        nodes: what computes the tensor from stored ones, makers first.
        tensor: the tensor.
        shape_of: the shape of a tensor.
        value_of: the value of a tensor that is computed from stored ones.
    """
    shape = shape_of(tensor)
    if len(shape) < 2 or shape[0] <= _STEP:
        return None
    inside: set[int] = set()
    stored: dict[int, Constant] = {}
    others: dict[int, Array] = {}
    axes: dict[int, tuple[int, ...]] = {}
    kept = []
    for node in nodes:
        reads = [each for each in node.inputs if each.name]
        for each in reads:
            if isinstance(each, Constant) and _has_rows(shape_of(each), shape):
                stored[id(each)] = each
                inside.add(id(each))
        if not any(id(each) in inside for each in reads):
            continue
        rest = [each for each in reads if id(each) not in inside]
        if node.op_type in _REDUCES:
            found = _axes(node, len(shape), value_of) if id(reads[0]) in inside and len(rest) == len(reads) - 1 else ()
            fits = bool(found) and 0 not in found
            axes[id(node)] = found
        else:
            fits = _rounds_once(node) and all(_is_same(shape_of(each), shape) for each in rest)
            others.update((id(each), np.asarray(value_of(each))) for each in (rest if fits else ()))
        if not fits or len(node.outputs) != 1 or not _has_rows(shape_of(node.outputs[0]), shape):
            return None
        inside.add(id(node.outputs[0]))
        kept.append(node)
    dtypes = {np.dtype(each.dtype) for each in stored.values()} | {each.dtype for each in others.values()}
    if id(tensor) not in inside or not dtypes <= _FLOATS:
        return None
    return Rows(tensor, tuple(kept), tuple(stored.values()), others, axes)


def _rounds_once(node: Node) -> bool:
    """Whether an operator gives here what it gives in onnxruntime: of integers and float16 some do not."""
    if node.op_type == "Cast":
        return element_dtype(int(node.attrs["to"])) in (*_FLOATS, np.bool_)
    return node.op_type in (*_EXACT, "Clip")


def _exact(node: Node, read: list[Array]) -> Array:
    """What an operator gives that rounds once."""
    with np.errstate(all="ignore"):  # an infinity is no surprise
        if node.op_type == "Cast":
            return read[0].astype(element_dtype(int(node.attrs["to"])))
        if node.op_type == "Clip":
            return _clipped(node, *read)
        found: Array = _EXACT[node.op_type](*read)
        return found


def _clipped(node: Node, values: Array, *bounds: Array) -> Array:
    """Values between bounds; the largest number is one where none is given, and of equal zeros that of the values."""
    rest, finite = iter(bounds), np.finfo(values.dtype)
    low, high = (
        values.dtype.type(next(rest) if node.input(place) is not None else node.attrs.get(name, usual))
        for place, name, usual in ((1, "min", finite.min), (2, "max", finite.max))
    )
    if low * high < 0:  # the bounds are numbers, and none of them a zero
        made: Array = np.minimum(np.maximum(values, low), high)
        return made
    made = np.where(values < low, low, values)
    return np.where(made > high, high, made)


def _axes(node: Node, rank: int, value_of: Callable[[Tensor], Array | None]) -> tuple[int, ...]:
    """The axes that an operator leaves in place when it reduces them, counted from the left; none if not known."""
    given = node.input(1)
    axes = node.attrs.get("axes") if given is None else value_of(given)
    return () if axes is None or not node.attrs.get("keepdims", 1) else tuple(int(axis) % rank for axis in axes)


def _has_rows(form: Shape, shape: Shape) -> bool:
    return len(form) == len(shape) and form[0] == shape[0]


def _is_same(form: Shape, shape: Shape) -> bool:
    """Whether an operand of some form is the same for all rows of an array of a shape."""
    return len(form) < len(shape) or (len(form) == len(shape) and form[0] == 1)
