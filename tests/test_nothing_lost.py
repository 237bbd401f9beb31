"""What a compilation does not change comes back: names, documentation, metadata, annotations, interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import Outcome, compile_file
from onnx import ModelProto, NodeProto, TensorAnnotation, helper, numpy_helper
from small_networks import custom_operator, local_function, network, norm_values

from reptran_compiler.compiler import compile_model
from reptran_compiler.runtime import probe, random_feeds
from reptran_compiler.verification import check_kept


def documented() -> ModelProto:
    """A network that says something of everything in it, under odd names."""
    norm = helper.make_node("BatchNormalization", ["a", *norm_values()], ["a/b:0"], name="")
    sign = helper.make_node("Sign", ["a/b:0"], ["s"], name="знак ±")
    scaled = helper.make_node("Mul", ["f/wide", "three"], ["t"], name="conv/Tile")
    model = network(
        norm,
        sign,
        behind=[helper.make_node("Relu", ["y"], ["f/wide"], name=""), scaled],
        functions=[local_function()],
        domains=["acme", "com.unused"],
        three=np.array(3.0),
        **norm_values(),
    )
    model.producer_name, model.producer_version, model.domain, model.model_version = "maker", "7.1", "org.example", 42
    model.doc_string = "what the model is for"
    model.metadata_props.add(key="author", value="someone")
    graph = model.graph
    graph.doc_string = "what the graph is for"
    graph.metadata_props.add(key="graph", value="note")
    graph.input[0].doc_string = "an image"
    graph.output[0].doc_string = "logits"
    graph.node[-1].output[0] = "raw"
    graph.node.append(custom_operator("raw", "o"))
    for node in graph.node:
        node.doc_string = f"why {node.op_type}"
        node.metadata_props.add(key="origin", value=f"line of {node.op_type}")
    for tensor in graph.initializer:
        tensor.doc_string = f"what {tensor.name} holds"
    for name, shape in (("a", ["N", 8, 6, 6]), ("y", ["N", 8, 6, 6]), ("raw", ["N", 5])):
        graph.value_info.append(helper.make_tensor_value_info(name, 1, shape, doc_string=f"about {name}"))
        graph.value_info[-1].metadata_props.add(key="of", value=name)
    annotate(model, "x", "x/scale")
    annotate(model, "raw", "raw/scale")
    annotate(model, "y", "y/scale")
    return model


def annotate(model: ModelProto, tensor: str, scale: str) -> None:
    """A quantization annotation with a scale that nothing else refers to."""
    note = TensorAnnotation(tensor_name=tensor)
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    model.graph.quantization_annotation.append(note)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), scale))


@pytest.fixture
def done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Outcome:
    """`documented`, compiled."""
    found = compile_file(documented(), tmp_path, capsys)
    assert found.code == 0, found.err
    return found


def by_name(nodes: Any) -> dict[str, NodeProto]:
    return {node.name: node for node in nodes}


def pairs(entries: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}


def test_what_the_model_and_its_graph_say_of_themselves(done: Outcome) -> None:
    before, after = documented(), done.model
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(after, field) == getattr(before, field)
    assert list(after.opset_import) == list(before.opset_import)
    assert list(after.functions) == list(before.functions)
    assert pairs(before.metadata_props).items() <= pairs(after.metadata_props).items()
    assert (after.graph.name, after.graph.doc_string) == (before.graph.name, before.graph.doc_string)
    assert list(after.graph.metadata_props) == list(before.graph.metadata_props)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)


def test_nodes_keep_their_names_documentation_and_metadata(done: Outcome) -> None:
    before, after = documented(), by_name(done.model.graph.node)
    named = [node for node in before.graph.node if node.name]
    assert {node.name for node in named} <= set(after)
    for node in named:
        found = after[node.name]
        assert (found.op_type, found.domain) == (node.op_type, node.domain)
        assert found.doc_string == node.doc_string
        assert list(found.metadata_props) == list(node.metadata_props)
    assert len(after) == len(done.model.graph.node), "names of nodes are unique"


def test_tensors_keep_their_names(done: Outcome) -> None:
    made = {name for node in done.model.graph.node for name in node.output}
    assert {"a/b:0", "s", "f/wide", "t", "raw", "o"} <= made


def test_stored_tensors_that_did_not_change_are_the_same_to_the_byte(done: Outcome) -> None:
    before = {tensor.name: tensor for tensor in documented().graph.initializer}
    after = {tensor.name: tensor for tensor in done.model.graph.initializer}
    for name in ("stem.w", "three", "x/scale", "raw/scale"):
        assert after[name] == before[name]


def test_shapes_that_stay_true_are_stated_with_their_documentation(done: Outcome) -> None:
    before = {value.name: value for value in documented().graph.value_info}
    after = {value.name: value for value in done.model.graph.value_info}
    assert after == {name: before[name] for name in ("a", "raw")}, "the stem's output stays narrow, y is wide"


def test_a_stated_shape_that_is_lost_is_noticed() -> None:
    """Unless the tensor is a graph output, which states its shape itself."""
    source = documented()
    source.graph.value_info.append(source.graph.output[0])
    result = compile_model(source, 2).model
    assert not check_kept(result, source)
    for name, noticed in (("a", True), ("raw", True), ("o", False)):
        (at,) = (place for place, value in enumerate(result.graph.value_info) if value.name == name)
        less = ModelProto()
        less.CopyFrom(result)
        del less.graph.value_info[at]
        assert [failure.tensor for failure in check_kept(less, source)] == [name] * noticed


def test_annotations_of_what_kept_its_shape_stay(done: Outcome) -> None:
    notes = [note.tensor_name for note in done.model.graph.quantization_annotation]
    assert notes == ["x", "raw"]


def test_an_annotation_goes_with_what_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scale that the source computes from constants is a constant of the result, or nothing."""
    model = documented()
    model.graph.node.insert(0, helper.make_node("Shape", ["x"], ["computed"], name="computed"))
    model.graph.quantization_annotation[0].quant_parameter_tensor_names[0].value = "computed"
    found = compile_file(model, tmp_path, capsys)
    assert found.code == 0, found.err
    notes = [note.tensor_name for note in found.model.graph.quantization_annotation]
    assert model.graph.quantization_annotation[0].tensor_name not in notes


def test_an_annotation_that_is_a_word_names_no_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """qonnx notes the datatypes of tensors as annotations."""
    model = documented()
    model.graph.quantization_annotation[0].quant_parameter_tensor_names.add(key="finn_datatype", value="INT8")
    found = compile_file(model, tmp_path, capsys)
    assert found.code == 0, found.err
    assert found.model.graph.quantization_annotation[0] == model.graph.quantization_annotation[0]


def test_an_annotation_may_name_what_the_source_has_not_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays as it is."""
    model = documented()
    note = model.graph.quantization_annotation[0]
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="gone")
    done = compile_file(model, tmp_path, capsys)
    assert done.code == 0, done.err
    assert note in done.model.graph.quantization_annotation


def test_stated_shapes_do_not_lie(done: Outcome) -> None:
    onnx.checker.check_model(done.model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(done.model, check_type=True, strict_mode=True, data_prop=True)
    for batch in (2, 3):
        facts, _ = probe(done.model, random_feeds(done.model, batch=batch))
        for value in (*inferred.graph.value_info, *inferred.graph.output):
            stated = [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
            shape = facts[value.name].shape
            assert len(stated) == len(shape)
            assert all(size in (None, real) for size, real in zip(stated, shape, strict=True)), value.name


def test_a_shape_that_the_source_states_wrongly_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    model.graph.value_info.append(helper.make_tensor_value_info("f", 1, [2, 8]))
    model.graph.value_info.append(helper.make_tensor_value_info("nowhere", 1, [2]))
    done = compile_file(model, tmp_path, capsys, "--scope", "layer")
    assert done.code == 0, done.err
    assert not done.model.graph.value_info


COLLISIONS = ("a/Tile", "a/Tile/out", "y/mean", "s/wide", "layer/Tile", "y/rep", "stem.2", "w.2", "a.2", "bn/scale")


@pytest.mark.parametrize("bn", ["fold", "keep"])
@pytest.mark.parametrize("taken", COLLISIONS)
def test_names_that_the_compiler_would_give_may_be_taken(
    taken: str, bn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind = [
        helper.make_node("BatchNormalization", ["y", *norm_values()], [f"{taken}"], name="bn"),
        helper.make_node("Softmax", [taken], ["q"], name=taken, axis=1),
        helper.make_node("Mul", ["q", f"{taken}/out"], ["t"], name=f"{taken}/out"),
    ]
    stored = {f"{taken}/out": np.array(2.0), **norm_values()}
    done = compile_file(network(behind=behind, **stored), tmp_path, capsys, "--bn", bn)
    assert done.code == 0, done.err
    onnx.checker.check_model(done.model)
    assert {taken, f"{taken}/out"} <= set(by_name(done.model.graph.node))


def rename(model: ModelProto, names: dict[str, str]) -> ModelProto:
    """A model with other names of tensors."""
    for node in model.graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for tensor in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        tensor.name = names.get(tensor.name, tensor.name)
    return model


def test_any_name_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"x": "the image", "o": "λ:0", "w": "/w.1/", "stem.w": "0", "y": "1", "s": "%s {} \\", "a": "a\nb"}
    done = compile_file(rename(network(), names), tmp_path, capsys, "--map", str(tmp_path / "map.json"))
    assert done.code == 0, done.err
    assert [value.name for value in (*done.model.graph.input, *done.model.graph.output)] == ["the image", "λ:0"]


def test_a_stored_tensor_may_be_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(version=np.array([1, 2], np.int64))
    model.graph.output.append(helper.make_tensor_value_info("version", 7, [2]))
    model.graph.output.append(helper.make_tensor_value_info("w", 1, [8, 8, 3, 3]))
    done = compile_file(model, tmp_path, capsys)
    assert done.code == 0, done.err
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in done.model.graph.initializer}
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert all(np.array_equal(after[name], before[name]) for name in ("version", "w"))
    assert list(done.model.graph.output) == list(model.graph.output)


@pytest.mark.parametrize("batch", ["N", "", 0, 4])
def test_the_batch_axis_stays_as_it_was(batch: str | int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    for value in (*model.graph.input, *model.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        if isinstance(batch, int) and batch:
            axis.dim_value = batch
        elif batch:
            axis.dim_param = str(batch)
    done = compile_file(model, tmp_path, capsys)
    assert done.code == 0, done.err
    assert list(done.model.graph.input) == list(model.graph.input)
    assert list(done.model.graph.output) == list(model.graph.output)
