"""What is known of a tensor, and of one node's operands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.symbolic.dimension import Dimension, element, extent

LARGEST = 64
"""Values are followed through tensors of at most so many elements: enough for a shape."""

Shape = tuple[Dimension, ...]
Array = NDArray[Any]

_TYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.BOOL: np.dtype(np.bool_),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.INT16: np.dtype(np.int16),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.UINT16: np.dtype(np.uint16),
    TensorProto.UINT32: np.dtype(np.uint32),
    TensorProto.UINT64: np.dtype(np.uint64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
}


@dataclass(frozen=True, init=False)
class Fact:
    """What is known of a tensor; None stands for nothing.

    Attributes:
        dtype: the elements' type.
        shape: the sizes of the axes.
        value: an object array of the tensor's shape, for a small tensor: of Dimension for an integer or boolean
            tensor (booleans are 0 and 1), of numpy scalars for floating point, where all of them are constant.
        items: of a sequence of tensors, those.
    """

    dtype: np.dtype[Any] | None = None
    shape: Shape | None = None
    value: Array | None = None
    items: tuple[Fact, ...] = ()

    def __init__(
        self,
        dtype: np.dtype[Any] | None = None,
        shape: Shape | None = None,
        value: Array | None = None,
        items: tuple[Fact, ...] = (),
    ) -> None:
        here = self.__dict__
        here["dtype"], here["shape"], here["value"], here["items"] = dtype, shape, value, items

    @property
    def constants(self) -> list[int] | None:
        """The elements in row-major order, if they are integers that are known and constant."""
        if self.value is None or self.dtype is None or self.dtype.kind not in "iub":
            return None
        values = [item.constant for item in self.value.flat]
        return None if None in values else values


class Stored(Fact):
    """The fact of a small stored tensor of floating point, which is read when its value is asked for."""

    tensor: TensorProto

    def __init__(self, dtype: np.dtype[Any], shape: Shape, tensor: TensorProto) -> None:
        self.__dict__.update(dtype=dtype, shape=shape, tensor=tensor)

    @cached_property
    def value(self) -> Array | None:
        """The elements, where all of them are finite."""
        return _read(self.tensor).value


def constant_shape(shape: Shape | None) -> tuple[int, ...] | None:
    """The sizes, if all of them are known and constant."""
    if shape is None:
        return None
    sizes = []
    for size in shape:
        constant = size.constant
        if constant is None:
            return None
        sizes.append(constant)
    return tuple(sizes)


def of_array(array: Array) -> Fact:
    """The fact of a constant."""
    shape = tuple(map(Dimension.of, array.shape))
    if array.size > LARGEST or array.dtype.kind not in "iubf":
        return Fact(array.dtype, shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return Fact(array.dtype, shape)
    value = np.empty(array.size, dtype=object)
    value[:] = list(array.flat) if array.dtype.kind == "f" else [Dimension.of(int(item)) for item in array.flat]
    return Fact(array.dtype, shape, value.reshape(array.shape))


def of_tensor(tensor: TensorProto) -> Fact:
    """The fact of a stored tensor; its value is left out if it lies in a file that was not loaded."""
    sizes, dtype = tuple(tensor.dims), numpy_type(tensor.data_type)
    shape = tuple(map(Dimension.of, sizes))
    small = math.prod(sizes) <= LARGEST
    if not small or dtype is None or dtype.kind not in "iubf" or tensor.data_location == TensorProto.EXTERNAL:
        return Fact(dtype, shape)
    return Stored(dtype, shape, tensor) if dtype.kind == "f" else _read(tensor)


def _read(tensor: TensorProto) -> Fact:
    try:
        return of_array(numpy_helper.to_array(tensor))
    except (TypeError, ValueError):  # the data does not fit the shape: the model does not load
        return Fact(numpy_type(tensor.data_type), tuple(map(Dimension.of, tensor.dims)))


def numpy_type(element_type: int) -> np.dtype[Any] | None:
    """numpy's name of an ONNX element type; None if it has none of its own, or is no number."""
    return _TYPES.get(element_type)


@dataclass
class Call:
    """A node with what is known of its operands.

    Attributes:
        node: the node.
        opset: the version of ONNX's own operators: 7 or more.
        inputs: the facts; None for an optional input that is left out.
        forms: the outputs' shapes, once the shape rule has told them.
        target: the type of the first output, once it is known.
    """

    node: NodeProto
    opset: int
    inputs: Sequence[Fact | None]
    forms: Sequence[Shape | None] = ()
    target: np.dtype[Any] | None = None

    @property
    def form(self) -> Shape | None:
        """The first output's shape."""
        return self.forms[0] if self.forms else None

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes by name, as Python values."""
        return {item.name: helper.get_attribute_value(item) for item in self.node.attribute}

    def given(self, index: int) -> bool:
        """Whether the node has an input at `index`."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Fact:
        """The fact of an input; an empty one if it is left out."""
        fact = self.inputs[index] if index < len(self.inputs) else None
        return fact or Fact()

    def shape(self, index: int = 0) -> Shape | None:
        """The shape of an input."""
        return self.operand(index).shape

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Constant integers, from the attribute `name` or, where newer operators have it, the input at `index`."""
        if name in self.attributes:
            value = self.attributes[name]
            return [value] if isinstance(value, int) else list(value)
        return self.operand(index).constants

    def has(self, name: str, index: int) -> bool:
        """Whether `numbers(name, index)` are given at all, known or not."""
        return name in self.attributes or self.given(index)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value: bytes = self.attributes.get(name, default.encode())
        return value.decode()

    def unknown(self, rank: int, output: int = 0) -> list[Dimension]:
        """Sizes of which nothing is known, for the output at `output`."""
        return [extent(self.node.output[output], i) for i in range(rank)]


def unknown_elements(name: str, shape: tuple[int, ...]) -> Array:
    """The value of an integer tensor of which nothing is known but the shape."""
    value = np.empty(math.prod(shape), dtype=object)
    value[:] = [element(name, i) for i in range(value.size)]
    return value.reshape(shape)
