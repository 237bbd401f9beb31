"""Protobuf messages: copies of them, field by field, the values that they hold, and the sizes that they state."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

#: Bits of an element of the types that are packed.
_PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}

#: Attributes of these types are values: not graphs, nor types.
PLAIN = frozenset(
    {
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    }
)


def plain_attributes(node: NodeProto | None) -> dict[str, Any]:
    """The values of a node's attributes by name, as Python has them: text, numbers, lists and arrays."""
    return {} if node is None else {a.name: plain_value(a) for a in node.attribute if a.type in PLAIN}


def plain_value(attribute: AttributeProto) -> Any:
    """The value of an attribute whose type is one of `PLAIN`."""
    kind = attribute.type
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if kind == AttributeProto.FLOATS else value


@cache
def element_dtype(data_type: int) -> np.dtype[Any]:
    """The numpy dtype of an ONNX element type.

    Raises:
        KeyError: there is no such type.
    """
    return np.dtype(helper.tensor_dtype_to_np_dtype(data_type))


def copy_fields(source: Message, target: Message, without: Collection[str] = ()) -> None:
    """Add the fields that are set in one message to another one of its type, but for those that are named."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(target, field.name, value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            getattr(target, field.name).CopyFrom(value)


def stated_bytes(tensor: TensorProto) -> int:
    """How many bytes the data of a tensor takes; -1 where its type has no size, or its shape none."""
    bits, dims = _bits(tensor.data_type), tuple(tensor.dims)
    if not bits or min(dims, default=0) < 0:
        return -1
    return int(-(-math.prod(dims) * bits // 8))


@cache
def _bits(data_type: int) -> int:
    """Bits of an element of an ONNX type; 0 where it has no size."""
    try:
        name = TensorProto.DataType.Name(data_type)
        return 0 if name == "STRING" else _PACKED.get(name) or 8 * element_dtype(data_type).itemsize
    except (ValueError, KeyError, TypeError):
        return 0
