"""The integers that shapes determine, where symbols tell them and where only a run of a part of the graph does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.symbolic import symbolic
from reptran_compiler.runtime import integer_values, run


def shapes(ir_version: int = 8) -> ModelProto:
    """Sizes by operators that symbols follow, and by some that they do not, beside a layer that no size needs."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Cast", ["shape"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["real"], ["soft"], axis=0),
        helper.make_node("ArgMax", ["soft"], ["largest"], axis=0, keepdims=1),
        helper.make_node("Add", ["largest", "batch"], ["sum"]),
        helper.make_node("NonZero", ["shape"], ["places"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    stored = [
        numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float32), "w"),
        numpy_helper.from_array(np.array(0), "zero"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", 7])]
    if ir_version < 4:  # every initializer is an input
        inputs += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in stored]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 5, "H", 7])]
    graph = helper.make_graph(nodes, "shapes", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("sizes", [(1, 9), (6, 2)])
def test_integers_of_shapes_are_those_of_a_run(ir_version: int, sizes: tuple[int, int]) -> None:
    model = shapes(ir_version)
    feeds = {"x": np.zeros((sizes[0], 3, sizes[1], 7), np.float32)}
    found = integer_values(model, feeds, symbolic(model))
    names = [name for node in model.graph.node for name in node.output]
    whole = run(model, feeds, names)
    assert {"shape", "batch", "largest", "sum"} <= found.keys()
    for name, values in found.items():
        known = whole.get(name, values)
        assert (values.dtype, values.shape) == (known.dtype, known.shape)
        assert np.array_equal(values, known)
    assert not {"x", "y", "z", "real", "soft", "places"} & found.keys(), "no reals, nor what has several rows"


def test_they_are_found_whatever_the_order_of_the_nodes() -> None:
    """onnxruntime takes files whose nodes are not sorted."""
    model, turned = shapes(), shapes()
    del turned.graph.node[:]
    turned.graph.node.extend(reversed(model.graph.node))
    feeds = {"x": np.zeros((4, 3, 9, 7), np.float32)}
    found, again = (integer_values(each, feeds, symbolic(each)) for each in (model, turned))
    assert again.keys() == found.keys() >= {"shape", "batch", "largest", "sum"}
    assert all(np.array_equal(again[name], values) for name, values in found.items())
