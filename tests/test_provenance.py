"""What a result says of its own making."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.provenance import stored_weights


def _model() -> ModelProto:
    nodes = [
        helper.make_node("Reshape", ["latent", "shape"], ["flat"]),
        helper.make_node("Sign", ["flat"], ["signs"]),
        helper.make_node("Mul", ["signs", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["x", "scaled"], ["a"], name="behind"),
        helper.make_node("MatMul", ["plain", "a"], ["b"], name="in front"),
        helper.make_node("MatMul", ["a", "b"], ["c"], name="of two maps"),
        helper.make_node("Gemm", ["c", "plain", ""], ["y"], name="linear"),
    ]
    stored = {
        "latent": np.ones(9, np.float32),
        "shape": np.array([3, 3], np.int64),
        "scale": np.ones(3, np.float32),
        "plain": np.ones((3, 3), np.float32),
    }
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3]) for name in "xy"]
    constants = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants))


def test_the_weights_of_a_layer_are_found_where_they_are_stored() -> None:
    """The largest initializer that the weight is computed from; nothing for a product of two maps."""
    assert stored_weights(_model()) == {"behind": "latent", "in front": "plain", "linear": "plain"}


def test_constant_nodes_are_no_initializers_and_hide_none() -> None:
    model = _model()
    for node in model.graph.node:
        if node.op_type == "Reshape":
            node.op_type, node.input[1] = "Expand", "sizes"
    model.graph.node.insert(0, helper.make_node("Constant", [], ["sizes"], value_ints=[3, 9]))
    assert stored_weights(model)["behind"] == "latent"
