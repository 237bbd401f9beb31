"""Cut operators on their own, on the points where they can differ (THEORY section 5, item 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto

from reptran_compiler.runtime import (
    Level,
    RuntimeFailure,
    TensorFact,
    element_type,
    generator,
    is_float,
    run,
    special_points,
)
from reptran_compiler.verification.cutting import region, signature
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]

RANDOM_POINTS = 40
#: Factors to a number that lie at it, on both sides of it close by and further off, and on the other side of 0.
_BESIDE = (1.0, 0.99, 1.01, 0.5, 2.0, -1.0)
MOST_ELEMENTS = 1 << 22
_FEW = 16


@dataclass(frozen=True, eq=False)
class Region:
    """What lies between the tensors in front of a cut and the tensor behind it, in one graph.

    Attributes:
        graph: the graph.
        output: the tensor behind.
        inputs: the tensors in front.
        nodes: the nodes between.
    """

    graph: ProtoGraph
    output: str
    inputs: tuple[str, ...]
    nodes: tuple[NodeView, ...]

    @property
    def signature(self) -> tuple[object, ...]:
        """What the region computes, names apart."""
        return signature(self.graph, self.nodes, self.inputs)

    @property
    def shapeless(self) -> bool:
        """Whether it treats every element alike, with scalar constants, and may be tried on a vector."""
        return self.elementwise and all(int(np.prod(dims)) == 1 for dims in self._stored)

    @property
    def elementwise(self) -> bool:
        """Whether it treats every element alike, constants apart."""
        return all(node.op in _ELEMENTWISE for node in self.nodes)

    @property
    def numbers(self) -> list[float]:
        """The few numbers that it holds: bounds, slopes, thresholds."""
        found: dict[float, None] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name in self.graph.constants:
                    value = self.graph.value(name)
                    few = value.reshape(-1)[:_FEW] if value.dtype.kind in "fiu" or is_float(value.dtype) else value[:0]
                    found.update((float(number), None) for number in few)
            floats = (attribute.f for attribute in node.proto.attribute if attribute.type == AttributeProto.FLOAT)
            found.update((float(number), None) for number in floats)
        return [number for number in found if np.isfinite(number)]

    def told_axes(self, rank: int) -> set[int]:
        """The axes of a tensor of some rank whose places the region's constants tell apart."""
        if not self.elementwise or any(node.op == "Constant" for node in self.nodes):
            return set(range(rank))
        return {rank - len(dims) + place for dims in self._stored for place, size in enumerate(dims) if size != 1}

    @property
    def _stored(self) -> list[tuple[int, ...]]:
        names = [name for node in self.nodes for name in node.inputs if name in self.graph.initializers]
        return [tuple(self.graph.initializers[name].dims) for name in names]


_ELEMENTWISE_NAMES = (
    "Abs Add And Cast Ceil Celu Clip Constant Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity LeakyRelu Less LessOrEqual Log Max Min Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sqrt Sub Tanh ThresholdedRelu Where"
)
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


def find_region(graph: ProtoGraph, output: str, inputs: Sequence[str]) -> Region | None:
    """The region of a cut in a graph, or None where `output` depends on something else as well."""
    nodes = region(graph, output, inputs)
    return None if nodes is None else Region(graph, output, tuple(inputs), tuple(nodes))


def points(count: int, dtype: Any, numbers: Iterable[float] = ()) -> list[Array]:
    """Vectors to feed a region with: every special point for one input, every pair of them for two.

    For one input there are points at, and on both sides of, further numbers.
    """
    special = special_points(dtype, random_points=RANDOM_POINTS)
    if count == 1:
        near = [number * factor for number in dict.fromkeys(numbers) for factor in _BESIDE]
        with np.errstate(over="ignore"):
            return [np.concatenate([special, np.array(near).astype(special.dtype)])]
    few = special_points(dtype, random_points=6)
    grid = np.meshgrid(*[few] * min(count, 2), indexing="ij")
    vectors = [axis.reshape(-1) for axis in grid]
    return vectors + [np.roll(vectors[0], 7 * place) for place in range(count - 2)]


def spread(
    vectors: Sequence[Array], shapes: Sequence[tuple[int, ...]], seed: int, *, keep: bool = False
) -> list[Array]:
    """Arrays of the given shapes that are filled with points, another one for each element of a sample.

    Args:
        vectors: for each input an array [P] of points; the inputs get them in step.
        shapes: for each input its shape; the first axis is made as long as memory allows, at most P.
        seed: which element begins with which point.
        keep: whether the first axis keeps its size.
    """
    count = len(vectors[0])
    largest = max((int(np.prod(shape[1:])) for shape in shapes), default=1)
    samples = max(2, min(count, MOST_ELEMENTS // max(1, largest)))
    arrays = []
    for vector, shape in zip(vectors, shapes, strict=True):
        rows = shape[0] if keep and shape else samples
        size = int(np.prod(shape[1:]))
        first = generator(seed, f"first points of {size}").integers(0, count, size)
        index = (np.arange(rows)[:, None] * max(1, count // rows) + first) % count
        arrays.append(vector[index].reshape(rows, *shape[1:]) if shape else vector[first].reshape(()))
    return arrays


def _thin(shape: tuple[int, ...], parts: Sequence[Region]) -> tuple[int, ...]:
    """A shape with size 1 for the axes, but for the first, whose places some regions treat alike."""
    told = {axis for part in parts for axis in part.told_axes(len(shape))}
    return tuple(size if axis in told or axis == 0 else 1 for axis, size in enumerate(shape))


def _run(part: Region, facts: Mapping[str, TensorFact], fed: Sequence[Array], level: Level) -> Array:
    inputs = {
        name: onnx.helper.make_tensor_value_info(name, element_type(facts[name].dtype), None) for name in part.inputs
    }
    try:
        model = part.graph.subgraph([part.output], inputs)
    except KeyError as error:
        raise RuntimeFailure(f"it depends on graph input {error} directly") from None
    return run(model, dict(zip(part.inputs, fed, strict=True)), [part.output], level=level)[part.output]


def disagreement(
    before: Region,
    before_facts: Mapping[str, TensorFact],
    after: Region,
    after_facts: Mapping[str, TensorFact],
    *,
    copies: int = 1,
    assemble: Callable[[Sequence[Array]], Array] | None = None,
    shared: bool = False,
    forgive: float = 0.0,
    ignore_nan: bool = False,
    level: Level = Level.DISABLE,
) -> str:
    """Try two regions on the same points; one line that says where they differ, or nothing.

    Where both treat every element alike they are tried on a vector. Otherwise they are tried at their own
    shapes, with another point for every element and copy.

    Args:
        before: the region as it should be.
        before_facts: shapes and types of its graph.
        after: the region to judge.
        after_facts: shapes and types of its graph.
        copies: how many copies of what `before` reads `after` reads.
        assemble: puts the arrays of the copies together to what `after` reads and gives.
        shared: whether `after` reads one array for all copies, as behind a mean.
        forgive: how much the two may differ, relative to the largest of 1 and the inputs (the rounding of a
            residue `(sign(x) - p(x)) + p(x)` is relative to p).
        ignore_nan: whether points at which `before` gives NaN say nothing.
        level: how far onnxruntime may rewrite the regions.
    """
    numbers = [*before.numbers, *after.numbers] if before.elementwise and after.elementwise else []
    kinds = [before_facts[name].dtype for name in before.inputs if is_float(before_facts[name].dtype)]
    dtype = kinds[0] if kinds else np.dtype(np.float32)
    vectors = [
        vector.astype(before_facts[name].dtype)
        for name, vector in zip(before.inputs, points(len(before.inputs), dtype, numbers), strict=True)
    ]
    together = assemble or (lambda arrays: arrays[0])
    try:
        if before.shapeless and after.shapeless:
            fed = vectors
            expected = _run(before, before_facts, fed, level)
            actual = _run(after, after_facts, fed, level)
        else:
            shapes = [_thin(before_facts[name].shape, (before, after)) for name in before.inputs]
            try:
                own = [spread(vectors, shapes, 0 if shared else copy) for copy in range(copies)]
                results = [_run(before, before_facts, arrays, level) for arrays in own]
            except RuntimeFailure:  # a size of the batch is written into the operator
                own = [spread(vectors, shapes, 0 if shared else copy, keep=True) for copy in range(copies)]
                results = [_run(before, before_facts, arrays, level) for arrays in own]
            expected = together(results)
            fed = own[0] if shared else [together(arrays) for arrays in zip(*own, strict=True)]
            actual = _run(after, after_facts, fed, level)
    except RuntimeFailure as failure:
        return f"the operator cannot be tried on its own: {failure}"
    if expected.shape != actual.shape:
        return f"shape {list(actual.shape)} instead of {list(expected.shape)} on the special points"
    if expected.dtype != actual.dtype:
        return f"type {actual.dtype} instead of {expected.dtype}"
    same = _agreement(actual, expected, fed, forgive, ignore_nan)
    if same.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    inputs = [str(array[at]) for array in fed if array.shape == same.shape]
    return f"{actual[at]!s} instead of {expected[at]!s}" + (f" at {', '.join(inputs)}" if inputs else "")


def _agreement(actual: Array, expected: Array, fed: Sequence[Array], forgive: float, ignore_nan: bool) -> Array:
    """Where two results agree."""
    with np.errstate(invalid="ignore", over="ignore"):
        nan = _nan(expected)
        same: Array = (actual == expected) | (_nan(actual) & nan)
        if ignore_nan:
            same |= nan
        if forgive:
            difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
            sizes = [np.abs(array.astype(np.float64)) for array in fed if array.shape == actual.shape]
            size = np.max(sizes, axis=0) if sizes else np.ones(actual.shape)
            same |= difference <= np.where(np.isfinite(size), forgive * np.maximum(1.0, size), 0.0)
    return same


def _nan(array: Array) -> Array:
    """Where an array of any type is not a number."""
    return np.isnan(array) if is_float(array.dtype) else np.zeros(array.shape, dtype=np.bool_)
