"""Model files: what is read, what is refused, and how files are written."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.io import (
    ModelFileError,
    all_tensors,
    from_proto,
    read_model,
)
from reptran_compiler.model.writing import check_writable, write_bytes, write_model


def small_model() -> ModelProto:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight[0], "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.metadata_props.add(key="author", value="someone")
    model.doc_string = "a small model"
    model.graph.initializer[0].doc_string = "weights"
    return model


def data_of(path: Path) -> Path:
    """The file that the weights of a model lie in, which the compiler names by its content."""
    (found,) = path.parent.glob(f"{path.name}.*.data")
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    assert found.name == f"{path.name}.{digest[:16]}.data"
    return found


def external(folder: Path, **changes: str) -> Path:
    """A model with external data in a folder, entries of its first tensor changed."""
    path = folder / "model.onnx"
    write_model(small_model(), path, external=True)
    model = onnx.load(str(path), load_external_data=False)
    tensor = model.graph.initializer[0]
    entries = {entry.key: entry.value for entry in tensor.external_data} | changes
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_read_embedded(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(small_model(), path)
    source = read_model(path)
    assert source.model == small_model()
    assert source.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.payload == path.read_bytes()
    assert source.files == (path.resolve(),)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_external_round_trip(tmp_path: Path) -> None:
    model = small_model()
    path = tmp_path / "model.onnx"
    write_model(model, path, external=True)
    assert model == small_model(), "the model that is written must not change"
    assert sorted(tmp_path.iterdir()) == sorted([path, data_of(path)])
    assert read_model(path).model == model
    assert read_model(path).payload is None
    onnx.checker.check_model(str(path))
    assert numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0]).shape == (64, 64)


def test_digest_covers_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    before = read_model(path).digest
    data = data_of(path)
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    assert read_model(path).digest != before


def test_external_data_in_subgraph(tmp_path: Path) -> None:
    branch = small_model().graph
    (tmp_path / "w.bin").write_bytes(branch.initializer[0].raw_data)
    tensor = branch.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    model = small_model()
    model.graph.node.append(node)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    found = [tensor for tensor in all_tensors(read_model(path).model) if tensor.name == "w"]
    assert len(found) == 3
    assert all(tensor.raw_data == found[0].raw_data and tensor.data_location == 0 for tensor in found)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", ""])
def test_external_data_outside_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelFileError, match="'w'"):
        read_model(external(folder, location=location))


def test_external_data_behind_links_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    for location in ("link.bin", "up/secret.bin"):
        with pytest.raises(ModelFileError, match="outside"):
            read_model(external(folder, location=location))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"location": "nowhere.bin"}, "missing"),
        ({"length": "999999"}, "too short"),
        ({"offset": "999999"}, "too short"),
        ({"offset": "-4"}, "too short"),
        ({"length": "many"}, "no number"),
    ],
)
def test_external_data_that_cannot_be_used(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        read_model(external(tmp_path, **changes))


def test_external_data_needs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = external(tmp_path).read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(payload)))
    with pytest.raises(ModelFileError, match="standard input"):
        read_model("-")
    with pytest.raises(ModelFileError, match="not loaded"):
        from_proto(onnx.load(str(tmp_path / "model.onnx"), load_external_data=False))


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    payload, written = small_model().SerializeToString(), io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(payload)))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=written))
    source = read_model("-")
    assert source.name == "-" and source.folder is None and source.files == ()
    write_model(source.model, "-")
    assert written.getvalue() == payload
    with pytest.raises(ModelFileError, match="standard output"):
        write_model(source.model, "-", external=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x08", "no ONNX model"),
        (b"# a text file\n", "no ONNX model"),
        (bytes(64), "no ONNX"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_model(path)


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model().SerializeToString()[:-100])
    with pytest.raises(ModelFileError, match="no ONNX model"):
        read_model(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_model(tmp_path / "nothing.onnx")
    with pytest.raises(ModelFileError, match="directory"):
        read_model(tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for outside in (False, True):
        with pytest.raises(ModelFileError, match="No space left"):
            write_model(small_model(), path, external=outside)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real.onnx").write_bytes(b"before")
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    write_bytes(b"after", tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "real.onnx").read_bytes() == b"after"


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.onnx")
    check_writable("-")
    check_writable(os.devnull)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelFileError, match="folder"):
        check_writable(tmp_path)
    with pytest.raises(ModelFileError, match="No such file"):
        check_writable(tmp_path / "nowhere" / "new.onnx")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match="Not a directory"):
        check_writable(tmp_path / "file" / "new.onnx")


def test_devices_are_written_to_as_they_are() -> None:
    write_model(small_model(), os.devnull)
    assert not Path(os.devnull).is_file()
    with pytest.raises(ModelFileError, match="file of their own"):
        write_model(small_model(), os.devnull, external=True)
