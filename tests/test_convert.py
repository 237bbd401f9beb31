"""A model that becomes a graph and a model again is the model that it was; what rules change is what changes."""

from __future__ import annotations

import hostile_models
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from small_networks import custom_operator, if_node, local_function, loop_node, network
from spelled import spelled
from test_nothing_lost import documented
from tiny_networks import joined, plain

from reptran_compiler.model import Constant, Graph, Node, export_model, import_model, node_proto

FLAG = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])


def branching() -> ModelProto:
    """An If whose branches read a map and a constant, which the main graph reads, too."""
    behind = [if_node("y", "z"), helper.make_node("Mul", ["z", "two"], ["t"], name="scaled")]
    return network(behind=behind, inputs=[FLAG], two=np.array(2.0))


def with_defaults() -> ModelProto:
    """A network with two inputs that need not be fed."""
    return network(
        inputs=[helper.make_tensor_value_info("w", 1, [8, 8, 3, 3]), helper.make_tensor_value_info("fc.w", 1, [5, 8])]
    )


def looping() -> ModelProto:
    loop = [loop_node("y", "u"), custom_operator("u", "t")]
    return network(behind=loop, trips=np.array(2), functions=[local_function()], domains=["acme"])


MODELS = {
    "plain": plain,
    "joined": joined,
    "opset 7": lambda: spelled(7),
    "documented": documented,
    "branching": branching,
    "looping": looping,
    "sparse": hostile_models.sparse,
    "defaults": with_defaults,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_round_trip_changes_nothing(name: str) -> None:
    before = MODELS[name]()
    after = export_model(import_model(before), keep_value_info=True)
    assert before == MODELS[name](), "the model that is read does not change"
    for node, found in zip(before.graph.node, after.graph.node, strict=True):
        node.name = node.name or found.name
        node.attribute.sort(key=lambda each: each.name)
        found.attribute.sort(key=lambda each: each.name)
    for model in (before, after):
        for field in (model.graph.initializer, model.graph.input):
            field.sort(key=lambda each: each.name)
    assert after == before


def node(graph: Graph, name: str) -> Node:
    return next(each for each in graph.nodes if each.name == name)


def stored(model: ModelProto) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_nodes_without_a_name_of_their_own_get_one() -> None:
    model = network()
    for each, name in zip(model.graph.node, ("Sign#1", "", "same", "same", "same.2", ""), strict=True):
        each.name = name
    names = [each.name for each in import_model(model).nodes]
    assert names[0] == "Sign#1" and names[2] == "same" and names[4] == "same.2"
    assert len(set(names)) == len(names) and all(names)


def test_a_subgraph_keeps_the_values_that_it_reads() -> None:
    graph = import_model(branching())
    scaled = node(graph, "scaled")
    scaled.inputs[1] = Constant(scaled.inputs[1].name, np.array(3.0, np.float32))
    model = export_model(graph)
    onnx.checker.check_model(model)
    name = next(each for each in model.graph.node if each.name == "scaled").input[1]
    assert name != "two"
    assert (stored(model)["two"], stored(model)[name]) == (2.0, 3.0)


def test_what_a_subgraph_reads_is_made_before_it() -> None:
    graph = import_model(branching())
    graph.nodes.reverse()
    graph.tidy()
    names = [each.name for each in graph.nodes]
    assert names.index("layer") < names.index("choice") < names.index("scaled")


def test_a_constant_that_only_a_removed_subgraph_read_goes() -> None:
    graph = import_model(branching())
    graph.redirect(node(graph, "choice").outputs[0], node(graph, "layer").outputs[0])
    node(graph, "scaled").inputs[1] = graph.constant("four", np.float32(4.0))
    graph.tidy()
    assert {"two", "four"} & set(stored(export_model(graph))) == {"four"}


def test_names_inside_of_subgraphs_are_taken() -> None:
    graph = import_model(branching())
    assert graph.fresh("doubled") != "doubled" and graph.fresh("then") != "then"
    assert import_model(hostile_models.sparse()).fresh("few") != "few"


def test_two_constants_of_one_name_are_an_error() -> None:
    graph = import_model(network())
    node(graph, "fc").inputs[1] = Constant("w", np.ones((5, 8), np.float32))
    with pytest.raises(ValueError, match="two constants are called 'w'"):
        export_model(graph)


def test_an_input_with_a_default_goes_where_the_default_was_replaced() -> None:
    graph = import_model(with_defaults())
    layer = node(graph, "layer")
    layer.inputs[1] = Constant(layer.inputs[1].name, np.ones((4, 16, 3, 3), np.float32))
    model = export_model(graph)
    assert [value.name for value in model.graph.input] == ["x", "fc.w"]


def test_below_ir_version_four_new_constants_are_inputs() -> None:
    graph = import_model(spelled(7))
    node(graph, "one").inputs[1] = graph.constant("new", np.ones((4, 16, 3, 3), np.float32))
    model = export_model(graph)
    listed = {value.name for value in model.graph.input}
    assert {"input", "new"} <= listed and "one.w" not in listed
    assert set(stored(model)) <= listed


def test_documentation_of_another_operator_is_kept_but_not_what_is_true_of_the_old_one_alone() -> None:
    model = documented()
    model.graph.node[0].overload = "special"
    graph = import_model(model)
    assert export_model(graph).graph.node[0].overload == "special"
    graph.nodes[0].op = "ConvInteger"
    changed = export_model(graph).graph.node[0]
    assert changed.doc_string == "why Conv" and changed.overload == ""


@pytest.mark.parametrize(
    ("op", "name", "kind"),
    [
        ("Conv", "pads", AttributeProto.INTS),
        ("LSTM", "activations", AttributeProto.STRINGS),
        ("LSTM", "activation_alpha", AttributeProto.FLOATS),
        ("NoSuchOperator", "numbers", AttributeProto.INTS),
    ],
)
def test_an_empty_attribute_has_the_type_of_its_operator(op: str, name: str, kind: int) -> None:
    """An empty list does not tell it; onnxruntime takes such a one where it does not know a rank."""
    graph = import_model(plain())
    (attribute,) = node_proto(graph.node(op, graph.inputs, {name: []}, name="new")).attribute
    assert (attribute.name, attribute.type) == (name, kind)
    assert not (*attribute.ints, *attribute.floats, *attribute.strings)
