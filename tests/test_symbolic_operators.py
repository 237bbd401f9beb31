"""Operators as old and new opsets spell them, and what is left unknown: compared with onnxruntime at several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from test_symbolic import BIG, FLOAT, INT64, Graph, assert_holds, is_known

from reptran_compiler.model.symbolic import constant_values, symbolic

SIZES = [{"N": n, "H": h, "W": w} for n, h, w in ((1, 6, 6), (2, 9, 7), (3, 6, 12))]
Build = Callable[[Graph], Any]


def weight(*shape: int) -> Callable[[Graph], str]:
    """A float initializer."""
    return lambda g: g.const(np.ones(shape), np.float32)


SPELLINGS: dict[str, tuple[int, Build]] = {
    "slice by attributes": (9, lambda g: g.add("Slice", "x", starts=[1, 0], ends=[BIG, -2], axes=[1, 3])),
    "slice without axes": (9, lambda g: g.add("Slice", g.add("Shape", "x"), starts=[1], ends=[3])),
    "slice with int32 bounds": (
        11,
        lambda g: g.add("Slice", "x", *(g.const([v], np.int32) for v in (1, 2**31 - 1, 2, 2))),
    ),
    "slice by computed bounds": (
        13,
        lambda g: g.add("Slice", "x", g.const([0]), g.add("Div", g.size(2), g.const([2])), g.const([2])),
    ),
    "split by attribute": (9, lambda g: g.add("Split", "x", outputs=2, axis=1, split=[1, 3])[1]),
    "split into equal parts": (9, lambda g: g.add("Split", "x", outputs=2, axis=1)[1]),
    "split by input": (13, lambda g: g.add("Split", "x", g.const([3, 1]), outputs=2, axis=1)[0]),
    "split unevenly": (18, lambda g: g.add("Split", "x", outputs=3, axis=1, num_outputs=3)[2]),
    "squeeze by attribute": (11, lambda g: g.add("Squeeze", g.add("Unsqueeze", "x", axes=[0, 3]), axes=[-3])),
    "squeeze by input": (
        13,
        lambda g: g.add("Squeeze", g.add("Unsqueeze", "x", g.const([0, -1])), g.const([0])),
    ),
    "sum by attribute": (11, lambda g: g.add("ReduceSum", "x", axes=[2, -1], keepdims=0)),
    "sum by input": (13, lambda g: g.add("ReduceSum", "x", g.const([1]))),
    "sum of everything": (13, lambda g: g.add("ReduceSum", "x", keepdims=0)),
    "sum of nothing": (13, lambda g: g.add("ReduceSum", "x", noop_with_empty_axes=1)),
    "mean by attribute": (13, lambda g: g.add("ReduceMean", "x", axes=[1])),
    "mean by input": (18, lambda g: g.add("ReduceMean", "x", g.const([1]))),
    "index of the largest": (13, lambda g: g.add("ArgMax", "x", axis=1, keepdims=0)),
    "pad by attribute": (10, lambda g: g.add("Pad", "x", pads=[0, 0, 1, 2, 0, 3, 1, 0])),
    "pad by input": (13, lambda g: g.add("Pad", "x", g.const([0, 0, 1, 2, 0, 3, -1, 0]))),
    "pad by axes": (18, lambda g: g.add("Pad", "x", g.const([1, 2]), "", g.const([-1]))),
    "clip by attributes": (9, lambda g: g.add("Clip", "x", min=0.0, max=1.0)),
    "upsample by attribute": (7, lambda g: g.add("Upsample", "x", scales=[1.0, 1.0, 2.0, 2.0])),
    "upsample by input": (9, lambda g: g.add("Upsample", "x", g.const([1, 1, 2, 1.5], np.float32))),
    "resize": (10, lambda g: g.add("Resize", "x", g.const([1, 1, 0.5, 3], np.float32))),
    "resize by axes": (18, lambda g: g.add("Resize", "x", "", g.const([2, 2], np.float32), axes=[2, 3])),
    "dropout": (7, lambda g: g.add("Dropout", "x", outputs=2)[0]),
    "space to depth": (13, lambda g: g.add("SpaceToDepth", g.add("Pad", "x", g.const([0] * 8)), blocksize=1)),
    "convolution without kernel_shape": (
        11,
        lambda g: g.add("Conv", "x", weight(8, 2, 3, 1)(g), group=2, strides=[2, 2], auto_pad="SAME_UPPER"),
    ),
    "transposed convolution": (
        11,
        lambda g: g.add("ConvTranspose", "x", weight(4, 3, 2, 3)(g), strides=[2, 3], output_padding=[1, 0]),
    ),
    "pool rounding up": (10, lambda g: g.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "pool with indices": (11, lambda g: g.add("MaxPool", "x", kernel_shape=[2, 2], outputs=2)[1]),
    "global pool": (9, lambda g: g.add("GlobalAveragePool", "x")),
    "flat": (13, lambda g: g.add("Flatten", "x", axis=-3)),
    "linear layer": (
        13,
        lambda g: g.add("Gemm", g.add("Flatten", g.add("GlobalMaxPool", "x")), weight(5, 4)(g), transB=1),
    ),
    "stacks of matrices": (13, lambda g: g.add("MatMul", "x", g.add("Transpose", "x", perm=[0, 1, 3, 2]))),
    "matrix and vector": (13, lambda g: g.add("MatMul", g.add("Transpose", "x", perm=[0, 2, 3, 1]), weight(4)(g))),
    "slopes": (9, lambda g: g.add("PRelu", "x", weight(4, 1, 1)(g))),
    "shuffle with copied sizes": (
        9,
        lambda g: g.add("Reshape", "x", g.add("Concat", g.const([0, 2, -1]), g.size(2), g.size(3), axis=0)),
    ),
    "reshape of an axis that moves": (
        9,
        lambda g: g.add("Reshape", "x", g.add("Concat", g.size(2), g.size(0), g.const([-1]), axis=0)),
    ),
    "computed fill": (
        9,
        lambda g: g.add("ConstantOfShape", g.add("Cast", g.add("Cast", g.add("Shape", "x"), to=6), to=7)),
    ),
    "range of an axis": (
        13,
        lambda g: g.add("Range", g.const(1), g.add("Squeeze", g.size(2)), g.const(2)),
    ),
    "gathered elements": (
        13,
        lambda g: g.add("GatherElements", "x", g.add("Cast", g.add("Relu", g.add("Sign", "x")), to=INT64), axis=1),
    ),
    "every element a slice": (13, lambda g: g.add("Gather", "x", g.const([[0, -1], [1, 2]]), axis=1)),
    "sequence": (
        13,
        lambda g: g.add(
            "SequenceAt", g.add("SplitToSequence", "x", g.add("Constant", value_ints=[1, 3]), axis=1), g.const(-1)
        ),
    ),
    "sequence of single ones": (
        13,
        lambda g: g.add("SequenceAt", g.add("SplitToSequence", "x", axis=1, keepdims=0), g.const(0)),
    ),
}

#: Valid spellings that the last onnxruntime for Python 3.10 refuses.
REFUSED = {"split unevenly", "sum of nothing"} if ort.__version__.startswith("1.23.") else set()


@pytest.mark.parametrize("case", SPELLINGS)
def test_each_spelling_of_an_operator_is_followed(case: str) -> None:
    opset, build = SPELLINGS[case]
    g = Graph(["N", 4, "H", "W"], opset)
    result = build(g)
    g.add("Shape", result)
    symbols = assert_holds(g.model(), SIZES, all_run=case not in REFUSED)
    assert all(is_known(size) for size in symbols.shapes[result])


EDGES: dict[str, Build] = {
    "division of negative numbers": lambda g: g.add("Div", g.add("Sub", g.size(0), g.const([3])), g.const([2])),
    "division by a negative number": lambda g: g.add("Div", g.add("Sub", g.size(0), g.const([3])), g.const([-2])),
    "absolute": lambda g: g.add("Abs", g.add("Sub", g.size(0), g.const([2]))),
    "greater": lambda g: g.add("Greater", g.size(0), g.const([-1])),
    "greater than itself": lambda g: g.add("Greater", g.add("Add", g.size(0), g.const([1])), g.size(0)),
    "not greater than itself": lambda g: g.add("LessOrEqual", g.add("Add", g.size(0), g.const([1])), g.size(0)),
    "small type": lambda g: g.add("Cast", g.const([200, -1, 7]), to=TensorProto.INT8),
    "overflow": lambda g: g.add("Mul", g.const([2**20], np.int32), g.const([2**20], np.int32)),
    "slice to a negative size": lambda g: g.add(
        "Slice", "x", g.const([0]), g.add("Sub", g.size(0), g.const([2])), g.const([2])
    ),
    "transposed operands": lambda g: g.add("Gemm", g.add("Flatten", "x"), weight(5, 3)(g), transA=1, transB=1),
    "squeeze of every axis of size 1": lambda g: g.add("Squeeze", g.add("GlobalMaxPool", "x")),
    "pool rounding up, last window in the padding": lambda g: g.add(
        "MaxPool", "x", kernel_shape=[1, 2], strides=[3, 3], pads=[0, 0, 0, 1], ceil_mode=1
    ),
    "pool larger than the image": lambda g: g.add("MaxPool", "x", kernel_shape=[8, 7], strides=[3, 3]),
    "dilated pool of the same size": lambda g: g.add(
        "MaxPool", "x", kernel_shape=[3, 3], dilations=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "scale near a whole number": lambda g: g.add("Resize", "x", "", g.const([1, 0.75, 0.3, 0.1], np.float32)),
    "size that may be a copy": lambda g: g.add(
        "Reshape", "x", g.add("Concat", g.add("Sub", g.size(0), g.const([1])), g.const([4, -1]), axis=0)
    ),
    "size that may be -1": lambda g: g.add(
        "Reshape", "x", g.add("Concat", g.add("Sub", g.size(0), g.const([3])), g.const([2]), axis=0), allowzero=1
    ),
    "flip to the largest integer": lambda g: g.add(
        "Slice", "x", g.const([-1]), g.const([BIG]), g.const([2]), g.const([-1])
    ),
}


@pytest.mark.parametrize("case", EDGES)
def test_what_is_told_at_the_edges_is_what_a_run_shows(case: str) -> None:
    g = Graph(["N", 4, "H", "W"])
    g.add("Shape", g.add("Identity", EDGES[case](g)))
    assert_holds(g.model(), [{"N": n, "H": h, "W": w} for n, h, w in ((1, 10, 10), (2, 5, 4), (3, 1, 1), (6, 4, 7))])


CONSTANTS: dict[str, tuple[dict[str, Any], Any]] = {
    "value": ({"value": numpy_helper.from_array(np.array([[3, -1]], dtype=np.int32))}, np.array([[3, -1]], np.int32)),
    "value_int": ({"value_int": 5}, np.array(5)),
    "value_ints": ({"value_ints": [5, 6]}, np.array([5, 6])),
    "bool": ({"value": numpy_helper.from_array(np.array([True, False]))}, np.array([True, False])),
}


@pytest.mark.parametrize("case", CONSTANTS)
def test_constants_have_their_value_and_type(case: str) -> None:
    attributes, expected = CONSTANTS[case]
    g = Graph(["N", 4])
    name = g.add("Constant", **attributes)
    found = constant_values(symbolic(g.model()))[name]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_two_axes_of_one_name_have_one_size_and_axes_without_a_name_have_their_own() -> None:
    g = Graph(["N", "N", None, None])
    names = [g.add("Sub", g.size(i), g.size(i + 1)) for i in (0, 2)]
    symbols = symbolic(g.model())
    one, other = (symbols.values[name].item() for name in names)
    assert one.constant == 0 and other.constant is None
    assert [str(size) for size in symbols.shapes["x"]] == ["N", "N", "'x:2'", "'x:3'"]
    assert symbols.shapes["x"][2].evaluate({"x:2": 7}) == 7


def test_an_axis_without_a_name_is_not_taken_for_one_that_is_named_like_it() -> None:
    g = Graph([None, "x:0"])
    g.add("Sub", g.size(0), g.size(1))
    assert symbolic(g.model()).values["t4"].item().constant is None


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    g = Graph(["N", 4])
    g.add("Reshape", "x", g.const([-1, 2]))
    model = g.model()
    model.graph.input.insert(0, helper.make_tensor_value_info("c0", INT64, ["K"]))
    assert [str(size) for size in symbolic(model).shapes["c0"]] == ["2"]
    assert str(symbolic(model).shapes["t0"][1]) == "2"


def unknown(model: ModelProto, name: str) -> bool:
    """Whether nothing is told of a tensor."""
    symbols = symbolic(model)
    return name not in symbols.shapes and name not in symbols.values


def test_nothing_is_told_of_what_is_not_onnx_s_own() -> None:
    g = Graph(["N", 4])
    custom, after = g.add("Relu", "x", domain="my.ops"), g.add("Neg", "t0")
    assert unknown(g.model(), custom) and unknown(g.model(), after)
    g = Graph(["N", 4])
    g.add("Relu", "x")
    model = g.model()
    body = [helper.make_node("Slice", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert unknown(model, "t0")


def test_nothing_is_told_of_old_opsets_and_of_branches() -> None:
    g = Graph(["N", 4], opset=6)
    g.add("Add", "x", "x")
    assert unknown(g.model(), "t0")
    g = Graph([2, 4])
    result = [helper.make_empty_tensor_value_info("inner")]
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["inner"])], "branch", [], result)
    g.add("If", g.const(True, np.bool_), then_branch=branch, else_branch=branch)
    assert unknown(g.model(), "t0")


def test_stored_shapes_are_not_believed() -> None:
    g = Graph(["N", 4])
    g.add("Relu", "x")
    g.add("Shape", "t0")
    model = g.model()
    model.graph.value_info.append(helper.make_tensor_value_info("t0", FLOAT, [7, 9]))
    assert [str(size) for size in symbolic(model).shapes["t0"]] == ["N", "4"]


def test_operators_without_a_rule_are_inferred_where_no_axis_is_dynamic() -> None:
    for batch, told in ((2, True), ("N", False)):
        g = Graph([batch, 4])
        name = g.add("Einsum", "x", "x", equation="ij,kj->ik")
        assert (name in symbolic(g.model()).shapes) is told
        assert_holds(g.model(), [{"N": 2}], all_run=True)


def test_an_integer_input_is_unknown_and_the_same_wherever_it_is_read() -> None:
    g = Graph(["N", 4])
    total = g.add("Sub", g.add("Add", "k", g.const([1])), "k")
    shaped = g.add("Reshape", "x", g.add("Concat", "k", g.const([2]), axis=0))
    model = g.model()
    model.graph.input.append(helper.make_tensor_value_info("k", INT64, [1]))
    symbols = symbolic(model)
    assert constant_values(symbols)[total].tolist() == [1]
    assert symbols.shapes[shaped][0].constant is None and symbols.shapes[shaped][1].constant == 2


def test_a_computed_size_that_may_be_minus_one_is_no_size() -> None:
    g = Graph(["N", 4])
    g.add("Reshape", "x", g.add("Concat", g.add("Sub", g.size(0), g.const([3])), g.const([2]), axis=0))
    symbols = assert_holds(g.model(), [{"N": 2}])
    assert not is_known(symbols.shapes["t4"][0])


def test_data_that_was_not_loaded_is_unknown() -> None:
    g = Graph(["N", 4])
    g.add("Reshape", "x", g.const([-1, 2]))
    model = g.model()
    target = model.graph.initializer[0]
    target.data_location = TensorProto.EXTERNAL
    target.ClearField("raw_data")
    symbols = symbolic(model)
    assert "c0" not in constant_values(symbols) and not is_known(symbols.shapes["t0"][1])


def test_a_model_that_is_not_well_formed_is_no_error() -> None:
    g = Graph(["N", 4])
    for op in ("Conv", "MaxPool", "Reshape", "Slice", "Split", "Gather", "Where", "Squeeze", "Constant", "Range"):
        g.add(op, "x", "nowhere")
    g.add("Squeeze", "x", g.const([9]))
    g.add("Concat", "x", "x", axis=5)
    g.add("Add", g.const([1, 2]), g.const([1, 2, 3]))
    assert isinstance(symbolic(g.model()).shapes, dict)
    assert symbolic(ModelProto()).shapes == {} and symbolic(onnx.ModelProto()).values == {}


def test_growing_expressions_cost_no_more_than_a_chain() -> None:
    g = Graph(["N", 4])
    last = first = g.size(0)
    for i in range(400):
        last = g.add(("Mul", "Add", "Min", "Max")[i % 4], last, last if i % 4 < 2 else first)
    symbols = symbolic(g.model())
    assert max(len(str(item)) for value in symbols.values.values() for item in value.flat) < 1000
    assert symbols.values[last].item().constant is None
