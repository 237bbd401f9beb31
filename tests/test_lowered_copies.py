"""The judge of lowered networks, where one copy is binarised of what is repeated, and at 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reptran_compiler.lowering import lower
from reptran_compiler.rewriting import known_rules
from reptran_compiler.runtime import run
from reptran_compiler.transformation import Options
from reptran_compiler.verification import check_lowered


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    """An operator that is named as what it makes."""
    return helper.make_node(op, list(inputs), [output], name=output, **attributes)


def binary(*between: NodeProto, copies: int, up: bool = False) -> ModelProto:
    """A real layer, then what is given, from "a" (4 channels) to "b", which a binary layer reads; a sum of signs."""
    draw = np.random.default_rng(0)
    stored = {
        "v": draw.normal(size=(4, 3, 1, 1)),
        "w": np.sign(draw.normal(size=(8, 4 * copies, 3, 3))),
        "scales": np.linspace(1, 2, 4 * copies).reshape(-1, 1, 1),
        "zero": 0,
        "one": 1,
        "minus": -1,
    }
    sign = [node("Sign", ["b"], "s")]
    if up:
        sign = [node("GreaterOrEqual", ["b", "zero"], "m"), node("Where", ["m", "one", "minus"], "s")]
    graph = helper.make_graph(
        [node("Conv", ["x", "v"], "a"), *between, *sign, node("Conv", ["s", "w"], "y", pads=[1] * 4)],
        "copies",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])],
        [helper.make_tensor_value_info("y", 1, ["N", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def lowered(model: ModelProto) -> ModelProto:
    """A network as onnxruntime is fast with it."""
    made = lower(model, Options(optimize="float"), known_rules(())).model
    feeds = {"x": np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)}
    assert np.array_equal(run(model, feeds)["y"], run(made, feeds)["y"])
    return made


def layer_width(model: ModelProto) -> int:
    """How many channels the last layer reads."""
    weights = next(each for each in model.graph.node if each.output[0] == "y").input[1]
    return next(int(each.dims[1]) for each in model.graph.initializer if each.name == weights)


COPIES = {
    "along an axis from the end": [node("Concat", ["a", "a"], "b", axis=-3)],
    "of copies": [node("Concat", ["a", "a", "a"], "c", axis=1), node("Concat", ["c", "c"], "b", axis=1)],
    "in front of a pooling": [
        node("Concat", ["a", "a"], "c", axis=1),
        node("MaxPool", ["c"], "b", kernel_shape=[3, 3], pads=[1] * 4),
    ],
}


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("between", [pytest.param(each, id=name) for name, each in COPIES.items()])
def test_copies_that_are_binarised_once_are_judged(between: list[NodeProto], up: bool) -> None:
    copies = np.prod([len(each.input) for each in between])
    source = binary(*between, copies=int(copies), up=up)
    made = lowered(source)
    assert layer_width(made) == 4
    report = check_lowered(source, made)
    assert report.ok, report.failures
    assert report.coverage.compared == report.coverage.required


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("between", [pytest.param(each, id=name) for name, each in COPIES.items()])
def test_a_copy_that_is_another_one_is_found(between: list[NodeProto], up: bool) -> None:
    """The lowered network binarises one copy; of the network that it is to be, another copy is the negative."""
    copies = int(np.prod([len(each.input) for each in between]))
    made = lowered(binary(*between, copies=copies, up=up))
    other = [NodeProto.FromString(each.SerializeToString()) for each in between]
    join = next(each for each in other if each.op_type == "Concat")
    join.input[len(join.input) - 1] = "turned"
    report = check_lowered(binary(node("Neg", ["a"], "turned"), *other, copies=copies, up=up), made)
    assert not report.ok


@pytest.mark.parametrize("up", [False, True])
def test_what_becomes_of_zeros_is_judged(up: bool) -> None:
    """Half of the numbers behind a Relu are 0, and no rounding is why."""
    source = binary(node("Relu", ["a"], "r"), node("Mul", ["r", "scales"], "b"), copies=1, up=up)
    made = lowered(source)
    assert check_lowered(source, made).ok
    wrong = ModelProto.FromString(made.SerializeToString())
    bound = next(each for each in made.graph.node if each.output[0] == "s" and each.op_type == "Clip").input[1]
    name = next((each.name for each in made.graph.initializer if each.name.endswith("/offset")), bound)
    for tensor in wrong.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(-np.asarray(values), name))
    report = check_lowered(source, wrong)
    assert [(failure.tensor, failure.rule) for failure in report.failures] == [("s", "binarisation")]
