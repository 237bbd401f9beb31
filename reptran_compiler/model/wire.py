"""Model files as protobuf writes them, read and written without their larger tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped,unused-ignore]
from onnx import GraphProto, ModelProto, TensorProto

from reptran_compiler.model.protos import copy_fields
from reptran_compiler.model.referred import LARGE_TENSOR, byte_count, is_referred, pieces_of

_VARINT, _EIGHT, _DELIMITED, _FOUR = 0, 1, 2, 5
_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_LOCATION = TensorProto.DESCRIPTOR.fields_by_name["data_location"].number
_REFERENCE = ("external_data", "data_location")
#: What a field that counts begins with: a known number of another type is an unknown field to protobuf.
_GRAPH_TAG, _INITIALIZER_TAG, _RAW_DATA_TAG = (number << 3 | _DELIMITED for number in (_GRAPH, _INITIALIZER, _RAW_DATA))
_LOCATION_TAG = _LOCATION << 3 | _VARINT


@dataclass(frozen=True)
class Skeleton:
    """A model without the data of its larger initializers, and where in its file that is.

    Attributes:
        model: the model.
        places: by the initializer's position in the graph, the offset and the length in bytes of its data.
    """

    model: ModelProto
    places: dict[int, tuple[int, int]]


class _Unusual(Exception):
    """The file is not as serialisers write it; protobuf has to say what it means."""


def skeleton(data: memoryview) -> Skeleton | None:
    """The skeleton of the model that a file holds; None where it is none, is spelled in an unusual way, or has
    external data."""
    places: dict[int, tuple[int, int]] = {}
    try:
        pieces = list(_without_graph(data, places))
        model = ModelProto()
        model.ParseFromString(b"".join(pieces))
    except (_Unusual, DecodeError, IndexError):
        return None
    return Skeleton(model, places)


def serialised(model: ModelProto) -> Iterator[bytes | memoryview]:
    """The bytes of a model, as `SerializeToString` gives them, in pieces, each read as it comes."""
    head, tail = _around(model, _GRAPH, without=("graph",))
    before, after = _around(model.graph, _INITIALIZER, without=("initializer",))
    shells = [(tensor, *_shell(tensor)) for tensor in model.graph.initializer]
    sizes = [len(start) + (byte_count(tensor) if start else 0) + len(end) for tensor, start, end in shells]
    keys = [_key(_INITIALIZER, size) for size in sizes]
    yield head + _key(_GRAPH, len(before) + sum(map(len, keys)) + sum(sizes) + len(after)) + before
    for key, (tensor, start, end) in zip(keys, shells, strict=True):
        yield key + start
        if start:
            yield from pieces_of(tensor)
        yield end
    yield after + tail


def _shell(tensor: TensorProto) -> tuple[bytes, bytes]:
    """What stands in front of and behind the data of a referred tensor; of another one all, and nothing in front."""
    if not is_referred(tensor):
        return b"", tensor.SerializeToString()
    start, end = _around(tensor, _RAW_DATA, without=_REFERENCE)
    return start + _key(_RAW_DATA, byte_count(tensor)), end


def _around(message: Message, number: int, without: tuple[str, ...]) -> tuple[bytes, bytes]:
    """A message's fields with smaller numbers than some, and those with larger ones, as bytes."""
    parts = []
    for smaller in (True, False):
        part = type(message)()
        others = (field.name for field, _ in message.ListFields() if (field.number < number) != smaller)
        copy_fields(message, part, without=(*without, *others))
        parts.append(part.SerializeToString())
    return parts[0], parts[1]


def _key(number: int, size: int) -> bytes:
    """What stands in front of a field of so many bytes."""
    return _varint(number << 3 | _DELIMITED) + _varint(size)


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _without_graph(data: memoryview, places: dict[int, tuple[int, int]]) -> Iterator[bytes | memoryview]:
    """A model's bytes, its graph's larger tensors left out and noted in `places`."""
    graphs = 0
    for tag, start, begin, end in _fields(data, 0, len(data)):
        if tag != _GRAPH_TAG:
            yield data[start:end]
            continue
        graphs += 1
        inner = list(_without_data(data, begin, end, places))
        yield _key(_GRAPH, sum(map(len, inner)))
        yield from inner
    if graphs != 1:
        raise _Unusual


def _without_data(
    data: memoryview, begin: int, end: int, places: dict[int, tuple[int, int]]
) -> Iterator[bytes | memoryview]:
    index, kept = 0, begin
    for tag, start, first, last in _fields(data, begin, end):
        if tag != _INITIALIZER_TAG:
            continue
        if last - first >= LARGE_TENSOR:
            yield data[kept:start]
            yield from _light_tensor(data, first, last, index, places)
            kept = last
        index += 1
    yield data[kept:end]


def _light_tensor(
    data: memoryview, first: int, last: int, index: int, places: dict[int, tuple[int, int]]
) -> Iterator[bytes | memoryview]:
    parts: list[memoryview] = []
    for tag, start, begin, end in _fields(data, first, last):
        if tag == _LOCATION_TAG:
            raise _Unusual
        if tag != _RAW_DATA_TAG:
            parts.append(data[start:end])
        elif index in places:
            raise _Unusual
        else:
            places[index] = (begin, end - begin)
    yield _key(_INITIALIZER, sum(map(len, parts)))
    yield from parts


def _fields(data: memoryview, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number and type, where the field starts, where its content begins, where it ends."""
    while place < end:
        start = place
        tag, place = _number(data, place)
        kind, begin = tag & 7, place
        if kind == _DELIMITED:
            size, begin = _number(data, place)
            place = begin + size
        elif kind == _VARINT:
            _, place = _number(data, place)
        elif kind in (_EIGHT, _FOUR):
            place += 8 if kind == _EIGHT else 4
        else:
            raise _Unusual
        if place > end:
            raise _Unusual
        yield tag, start, begin, place


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise _Unusual
