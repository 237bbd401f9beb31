"""Files that are read and written piece by piece: what protobuf says of them, and its bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto, helper

from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import read_model
from reptran_compiler.model.referred import LARGE_TENSOR, embedded, referred
from reptran_compiler.model.wire import serialised, skeleton

_FLOATS = LARGE_TENSOR // 4


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def text(number: int, content: bytes) -> bytes:
    """A field of bytes, or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def count(number: int, value: int) -> bytes:
    """A field of a number."""
    return varint(number << 3) + varint(value)


def numbers(seed: int, size: int = _FLOATS) -> bytes:
    """Raw data of floats."""
    return np.random.default_rng(seed).normal(size=size).astype(np.float32).tobytes()


#: The fields of a tensor, in any order: what they are to protobuf is the same.
RAW, NAME, KIND = 9, 8, 2
TENSOR = (count(1, _FLOATS), count(KIND, TensorProto.FLOAT), text(NAME, b"a"), text(RAW, numbers(0)))
ODD_TENSORS = {
    "as usual": TENSOR,
    "data first": TENSOR[::-1],
    "data twice": (*TENSOR, text(RAW, numbers(1))),
    "data twice, the last empty": (*TENSOR, text(RAW, b"")),
    "a number in the place of data": (*TENSOR, count(RAW, 5)),
    "a type and a name twice": (count(KIND, TensorProto.INT64), text(NAME, b"b"), *TENSOR),
    "a shape that the data does not fit": (count(1, 2), *TENSOR),
    "a shape in one field": (text(1, varint(_FLOATS)), *TENSOR[1:]),
    "data of its type": (*TENSOR[:3], text(4, numbers(0))),
    "data of two kinds": (*TENSOR, text(4, numbers(1))),
    "a segment": (*TENSOR, text(3, count(1, 0) + count(2, 5))),
    "a location": (*TENSOR, count(14, 0)),
    "external data": (*TENSOR, count(14, 1), text(13, text(1, b"location") + text(2, b"/etc/hostname"))),
    "unknown fields": (text(77, b"new"), *TENSOR, count(78, 3)),
    "a tag that is longer than it need be": (*TENSOR[:3], b"\xca\x80\x00" + varint(4 * _FLOATS) + numbers(0)),
    "a tag that is too large": (*TENSOR, varint(1 << 35 | RAW << 3 | 2) + varint(0)),
    "a group": (*TENSOR, varint(99 << 3 | 3), varint(99 << 3 | 4)),
}
SMALL = text(5, count(1, 1) + count(KIND, TensorProto.FLOAT) + text(NAME, b"s") + text(RAW, b"1234"))
LARGE = text(5, count(1, _FLOATS) + count(KIND, TensorProto.FLOAT) + text(NAME, b"z") + text(RAW, numbers(2)))
REST = text(1, helper.make_node("Add", ["a", "z"], ["c"]).SerializeToString()) + text(2, b"graph")
PLAIN = text(5, b"".join(TENSOR))
ODD_MODELS = {
    "as usual": (text(7, REST + PLAIN + SMALL + LARGE),),
    "tensors first": (text(7, SMALL + LARGE + PLAIN + REST),),
    "a graph in two fields": (text(7, REST + PLAIN), text(7, SMALL + LARGE)),
    "a number in the place of a graph": (count(7, 1), text(7, REST + PLAIN + SMALL + LARGE)),
    "a number in the place of a tensor": (text(7, REST + count(5, 7) + PLAIN + SMALL + LARGE),),
    "four bytes in the place of a tensor": (text(7, REST + varint(5 << 3 | 5) + b"four" + PLAIN + SMALL + LARGE),),
    "an unknown field between tensors": (text(7, PLAIN + text(99, b"new") + SMALL + LARGE + REST), text(98, b"new")),
    "no graph": (),
}
HEAD, TAIL = count(1, 8), text(8, helper.make_opsetid("", 17).SerializeToString())


def read(path: Path, refer_above: int | None) -> tuple[ModelProto, str] | str:
    """What a file holds, with its digest; or why it is refused."""
    try:
        source = read_model(path, refer_above=refer_above)
    except BadInput as error:
        return str(error)
    return embedded(source.model), source.digest


@pytest.mark.parametrize("payload", [pytest.param(each, id=name) for name, each in ODD_MODELS.items()])
def test_an_odd_model_is_what_protobuf_says(payload: tuple[bytes, ...], tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(HEAD + b"".join(payload) + TAIL)
    assert read(tmp_path / "in.onnx", 1000) == read(tmp_path / "in.onnx", None)


@pytest.mark.parametrize("tensor", [pytest.param(each, id=name) for name, each in ODD_TENSORS.items()])
def test_an_odd_tensor_is_what_protobuf_says(tensor: tuple[bytes, ...], tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(HEAD + text(7, REST + text(5, b"".join(tensor)) + SMALL + LARGE) + TAIL)
    assert read(tmp_path / "in.onnx", 1000) == read(tmp_path / "in.onnx", None)


@pytest.mark.parametrize("size", [1, 2, 5, 100, 70_000])
def test_a_file_that_is_cut_is_refused_alike(size: int, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes((HEAD + text(7, REST + PLAIN + SMALL + LARGE) + TAIL)[:-size])
    assert read(tmp_path / "in.onnx", 1000) == read(tmp_path / "in.onnx", None)


@st.composite
def models(draw: st.DrawFn) -> ModelProto:
    """Models with all kinds of fields around their tensors, which are large or small, raw or not."""
    words = st.text(max_size=5)
    model = ModelProto(ir_version=draw(st.integers(1, 10)), producer_name=draw(words), doc_string=draw(words))
    model.opset_import.append(helper.make_opsetid("", 17))
    graph = model.graph
    graph.name, graph.doc_string = draw(words), draw(words)
    graph.node.extend(helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(draw(st.integers(0, 3))))
    graph.output.extend([helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])] * draw(st.integers(0, 2)))
    for key in draw(st.lists(words, max_size=2)):
        model.metadata_props.add(key=key, value=draw(words))
        graph.metadata_props.add(key=key, value=draw(words))
    for seed in range(draw(st.integers(0, 4))):
        tensor = graph.initializer.add(name=draw(words), data_type=TensorProto.FLOAT, doc_string=draw(words))
        tensor.dims.extend(draw(st.sampled_from([(_FLOATS,), (2, _FLOATS), (3,), (_FLOATS, 1, 2), (0,)])))
        values = np.random.default_rng(seed).normal(size=tuple(tensor.dims)).astype(np.float32)
        if draw(st.booleans()):
            tensor.raw_data = values.tobytes()
        else:
            tensor.float_data.extend(values.reshape(-1))
    if draw(st.booleans()):
        model.functions.add(name="f", domain="d")
        model.training_info.add(initialization=GraphProto(name="start"))
    return model


@settings(max_examples=60, deadline=None)
@given(models())
def test_what_is_read_by_reference_is_the_model_and_is_written_as_protobuf_writes_it(
    tmp_path_factory: pytest.TempPathFactory, model: ModelProto
) -> None:
    path = tmp_path_factory.getbasetemp() / "wire.onnx"
    payload = model.SerializeToString()
    path.write_bytes(payload)
    light = read_model(path, refer_above=1000).model
    large = [each for each in model.graph.initializer if len(each.raw_data) >= LARGE_TENSOR]
    assert [each.name for each in referred(light)] == [each.name for each in large]
    assert embedded(light) == model
    assert b"".join(serialised(light)) == payload


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_with_a_wrong_byte_is_what_protobuf_says(data: st.DataObject) -> None:
    """Bytes around a tensor: those that say what is where."""
    payload = bytearray(HEAD + text(7, REST + PLAIN + LARGE) + TAIL)
    end = len(payload) - 1
    place = data.draw(
        st.integers(0, 80) | st.integers(end - 80, end) | st.integers(-40, 40).map(lambda i: end // 2 + i)
    )
    payload[place] = data.draw(st.integers(0, 255))
    found = skeleton(memoryview(payload))
    if found is None:
        return
    for index, (offset, length) in found.places.items():
        found.model.graph.initializer[index].raw_data = bytes(payload[offset : offset + length])
    whole = ModelProto()
    try:
        whole.ParseFromString(bytes(payload))
    except DecodeError:
        pytest.fail("no model, and read as one")
    assert found.model == whole
