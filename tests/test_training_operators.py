"""Each operator in torch against onnxruntime, in the forms that files have it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reptran_compiler.errors import BadInput
from reptran_compiler.runtime import Session
from reptran_compiler.training.operators import OPERATORS
from reptran_compiler.training.reading import _Reader
from reptran_compiler.verification.protograph import ProtoGraph


@dataclass(frozen=True)
class Case:
    """An operator: its type, the shape of its map, what it reads besides, its attributes, and the opset."""

    op: str
    shape: tuple[int, ...] = (2, 4, 5, 6)
    stored: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    outputs: int = 1
    maps: int = 1
    positive: bool = False

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.attributes.items()]
        return " ".join([self.op, *words, *(f"{each}" for each in self.stored), f"opset {self.opset}"])


def _i(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _f(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


UNARY = "Abs Ceil Erf Exp Floor Identity Neg Relu Selu Sigmoid Softplus Softsign Tanh GlobalAveragePool GlobalMaxPool"
BINARY = "Add Sub Mul Max Min Sum Mean"
CASES = [
    *(Case(op) for op in UNARY.split()),
    *(Case(op, positive=True) for op in ("Log", "Sqrt", "Reciprocal")),
    Case("HardSwish", opset=14),
    Case("Mish", opset=18),
    *(Case(op, maps=2) for op in BINARY.split()),
    *(Case(op, maps=3) for op in ("Max", "Sum", "Mean")),
    Case("Div", maps=2, positive=True),
    Case("Pow", stored=(_f(2.0),)),
    Case("Elu", attributes={"alpha": 0.7}),
    Case("LeakyRelu", attributes={"alpha": 0.2}),
    Case("Selu", attributes={"alpha": 1.2, "gamma": 0.7}),
    Case("Mod", stored=(_f(0.3),), attributes={"fmod": 1}),
    Case("HardSigmoid", attributes={"alpha": 0.3, "beta": 0.4}),
    Case("Clip", stored=(_f(-0.5), _f(0.7))),
    Case("Clip", stored=(_f(0.0),)),
    Case("Clip", attributes={"min": -0.2, "max": 0.3}, opset=7),
    Case("Dropout", opset=12),
    Case("Cast", attributes={"to": TensorProto.DOUBLE}),
    *(Case(op, attributes={"axis": axis}) for op in ("Softmax", "LogSoftmax") for axis in (1, -1)),
    Case("Softmax", attributes={"axis": 1}, opset=11),
    *(
        Case(op, attributes={"kernel_shape": [3, 2], **more})
        for op in ("MaxPool", "AveragePool")
        for more in (
            {},
            {"strides": [2, 1]},
            {"strides": [2, 2], "pads": [1, 0, 1, 1]},
            {"strides": [2, 2], "ceil_mode": 1},
            {"strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        )
    ),
    Case("MaxPool", attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Case("AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("MaxPool", shape=(2, 3, 9), attributes={"kernel_shape": [3], "strides": [2]}),
    *(
        Case(f"Reduce{kind}", attributes={"axes": [2, 3], "keepdims": keep})
        for kind in ("Mean", "Max", "Min", "L1", "L2", "SumSquare")
        for keep in (0, 1)
    ),
    Case("ReduceSum", stored=(_i(-1, 2),), attributes={"keepdims": 0}),
    Case("ReduceMean", stored=(_i(1),), opset=18),
    Case("ReduceMean"),
    *(
        Case(f"Reduce{kind}", stored=axes, attributes={"noop_with_empty_axes": noop}, opset=18)
        for kind in ("Sum", "L1", "L2", "SumSquare")
        for axes in ((), (_i(),))
        for noop in (0, 1)
    ),
    Case("Reshape", stored=(_i(0, -1),)),
    Case("Reshape", stored=(_i(-1, 4, 30),)),
    Case("Flatten"),
    Case("Flatten", attributes={"axis": 2}),
    Case("Flatten", attributes={"axis": -1}),
    Case("Transpose", attributes={"perm": [0, 2, 3, 1]}),
    Case("Transpose"),
    Case("Concat", maps=2, attributes={"axis": 1}),
    Case("Split", attributes={"axis": 1}, outputs=2, opset=13),
    Case("Split", stored=(_i(1, 3),), attributes={"axis": 1}, outputs=2),
    Case("Split", attributes={"axis": 1, "split": [3, 1]}, outputs=2, opset=11),
    Case("Split", attributes={"axis": 2, "num_outputs": 2}, outputs=2, opset=18),
    Case("Slice", stored=(_i(0, 0), _i(2**62, 2**62), _i(2, 3), _i(2, 2))),
    Case("Slice", stored=(_i(-3), _i(-1), _i(1))),
    Case("Slice", stored=(_i(-1), _i(-(2**62)), _i(1), _i(-2))),
    Case("Slice", stored=(_i(3), _i(1), _i(1))),
    Case("Slice", stored=(_i(-100), _i(-200), _i(3), _i(-1))),
    Case("Slice", attributes={"starts": [1], "ends": [3], "axes": [1]}, opset=9),
    Case("Pad", stored=(_i(0, 1, 0, 0, 0, 2, 0, 0), _f(-1.0))),
    Case("Pad", stored=(_i(0, 0, 1, 2, 0, 0, 0, 1),), attributes={"mode": "reflect"}),
    Case("Pad", stored=(_i(0, 0, 1, 2, 0, 0, 0, 1),), attributes={"mode": "edge"}),
    Case("Pad", stored=(_i(1, 0, 2, 0), _f(0.5), _i(1, 3)), opset=18),
    Case("Pad", attributes={"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 1.0}, opset=9),
    Case("Tile", stored=(_i(1, 3, 1, 1),)),
    Case("Expand", shape=(2, 1, 3), stored=(_i(4, 1),)),
    Case("Squeeze", shape=(2, 3, 1, 1), stored=(_i(2, -1),)),
    Case("Squeeze", shape=(2, 3, 1, 1)),
    Case("Squeeze", shape=(2, 3, 1), attributes={"axes": [2]}, opset=11),
    Case("Unsqueeze", shape=(2, 3), stored=(_i(-1, 1),)),
    Case("Unsqueeze", shape=(2, 3), attributes={"axes": [2, 3]}, opset=11),
    Case("Shape"),
    Case("Shape", attributes={"start": 1, "end": 3}),
    Case("Gather", stored=(_i(2, -1, 0),), attributes={"axis": 1}),
    Case("Gather", stored=(np.array(1, np.int64),), attributes={"axis": 1}),
    Case("Gather", shape=(4,), stored=(np.array(1, np.int64),)),
    Case("DepthToSpace", shape=(2, 8, 3, 3), attributes={"blocksize": 2}),
    Case("DepthToSpace", shape=(2, 8, 3, 3), attributes={"blocksize": 2, "mode": "CRD"}),
    Case("MatMul", shape=(2, 3, 3), maps=2),
]


def _model(nodes: Sequence[onnx.NodeProto], case: Case, outputs: Sequence[str]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, list(case.shape)) for k in range(case.maps)]
    stored = [numpy_helper.from_array(np.asarray(value), f"s{k}") for k, value in enumerate(case.stored)]
    graph = helper.make_graph(list(nodes), "g", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8)


def _same(model: onnx.ModelProto, case: Case, outputs: Sequence[str]) -> None:
    random = np.random.default_rng(0)
    feeds = {f"x{k}": random.standard_normal(case.shape).astype(np.float32) for k in range(case.maps)}
    if case.positive:
        feeds = {name: np.abs(value) + np.float32(0.1) for name, value in feeds.items()}
    theirs = Session(model, outputs=list(outputs)).run(feeds, list(outputs))
    network = _Reader(ProtoGraph(model), "clip", "clip").network()
    made = network.eval()(*(torch.from_numpy(feeds[name]) for name in network.inputs))
    mine = made if isinstance(made, tuple) else (made,)
    for name, value in zip(outputs, mine, strict=True):
        array = value.detach().numpy()
        assert array.dtype == theirs[name].dtype
        assert array.shape == theirs[name].shape
        np.testing.assert_allclose(array, theirs[name], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_computes_what_onnxruntime_does(case: Case) -> None:
    outputs = [f"y{k}" for k in range(case.outputs)]
    inputs = [*(f"x{k}" for k in range(case.maps)), *(f"s{k}" for k in range(len(case.stored)))]
    _same(_model([helper.make_node(case.op, inputs, outputs, "n", **case.attributes)], case, outputs), case, outputs)


@pytest.mark.parametrize(
    ("case", "outputs", "words"),
    [
        (Case("Relu", attributes={"ceiling": 6.0}), ["y"], "its attribute 'ceiling' is not known"),
        (Case("AveragePool", attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}, opset=19), ["y"], "dilated"),
        (Case("Dropout"), ["y", "mask"], "its mask is read"),
        (Case("Dropout", stored=(_f(0.5), np.array(True))), ["y"], "training mode"),
    ],
    ids=["attribute", "dilations", "mask", "training"],
)
def test_a_form_that_is_not_known_is_no_other_form(case: Case, outputs: list[str], words: str) -> None:
    inputs = ["x0", *(f"s{k}" for k in range(len(case.stored)))]
    model = _model([helper.make_node(case.op, inputs, outputs, "n", **case.attributes)], case, outputs)
    with pytest.raises(BadInput, match=words):
        _Reader(ProtoGraph(model), "clip", "clip").network()


def _float(name: str, made: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], f"cast {made}", to=TensorProto.FLOAT)


COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
LOGIC = ("And", "Or", "Xor")


@pytest.mark.parametrize("op", [*COMPARISONS, *LOGIC])
def test_masks_and_what_is_computed_of_them(op: str) -> None:
    case = Case(op, maps=2)
    nodes = [
        helper.make_node("Greater", ["x0", "x1"], ["m0"], "m0"),
        helper.make_node("Less", ["x0", "x0"], ["m1"], "m1"),
    ]
    operands = ["m0", "m1"] if op in LOGIC else ["x0", "x1"]
    nodes += [
        helper.make_node(op, operands, ["m"], "m"),
        helper.make_node("Not", ["m"], ["n"], "n"),
        helper.make_node("Where", ["n", "x0", "x1"], ["y"], "where"),
        _float("m", "z"),
    ]
    _same(_model(nodes, case, ["y", "z"]), case, ["y", "z"])


def test_shapes_that_are_computed_in_a_run() -> None:
    case = Case("Reshape")
    stored = {"zero": _i(0), "rest": _i(-1), "axes": _i(0), "three": _i(3), "two": _i(2)}
    nodes = [
        helper.make_node("Shape", ["x0"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], "gather"),
        helper.make_node("Concat", ["batch", "rest"], ["to"], "concat", axis=0),
        helper.make_node("Reshape", ["x0", "to"], ["flat"], "reshape"),
        helper.make_node("Mod", ["batch", "three"], ["modulo"], "mod"),
        helper.make_node("Div", ["modulo", "two"], ["one"], "div"),
        helper.make_node("Mul", ["one", "shape"], ["size"], "mul"),
        helper.make_node(
            "ConstantOfShape", ["size"], ["filled"], "filled", value=numpy_helper.from_array(np.float32([2]))
        ),
        helper.make_node("Expand", ["x0", "size"], ["wide"], "expand"),
        helper.make_node("Add", ["filled", "wide"], ["sum"], "sum"),
    ]
    model = _model(nodes, case, ["flat", "sum"])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    _same(model, case, ["flat", "sum"])


def test_every_operator_of_the_table_is_here() -> None:
    elsewhere = {*COMPARISONS, *LOGIC, "Not", "Where", "Mod", "ConstantOfShape"}
    assert set(OPERATORS) == {case.op for case in CASES} | elsewhere
