"""Every operator of ONNX that may stand behind a layer: carried by a rule, or a boundary with a reason; verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compile_file
from onnx import NodeProto, helper
from small_networks import network

_DRAW = np.random.default_rng(9)


def real(*shape: int) -> Any:
    """Positive parameters that no two are equal of."""
    return np.abs(_DRAW.normal(size=shape)) + 0.5


STORED: dict[str, Any] = {
    "scalar": np.array(1.5),
    "one each": real(8, 1, 1),
    "dense": real(1, 8, 6, 6),
    "spatial": real(6, 6),
    "eight": real(8),
    "eight'": real(8),
    "zeros": np.zeros(8, np.uint8),
    "middle": np.array(128, np.uint8),
    "2x": np.array([1, 1, 2, 2], np.float32),
    "one": np.array(1),
}


def chain(text: str) -> list[NodeProto]:
    """Nodes from `t = Mul(y, scalar) axis=1; ...`: "y" is the layer's output and "t" what goes on behind it.

    An input `[2:3]` is a stored tensor of these integers; an attribute `2:3` a list of them.
    """
    nodes = []
    for index, line in enumerate(text.split(";")):
        made, call = (part.strip() for part in line.split("=", 1))
        op, rest = call.split("(", 1)
        read, settings = rest.rsplit(")", 1)
        attributes = {key: _value(value) for key, value in (each.split("=") for each in settings.split())}
        inputs, outputs = ([name.strip() for name in names.split(",")] for names in (read, made))
        nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}.{index}", **attributes))
    return nodes


def _value(text: str) -> Any:
    if ":" in text:
        return [int(part) for part in text.split(":") if part]
    return int(text) if text.lstrip("-").isdigit() else text


def stored_for(nodes: list[NodeProto]) -> dict[str, Any]:
    """The stored tensors that nodes read."""
    read = {name for node in nodes for name in node.input}
    written = {name: np.array([int(part) for part in name[1:-1].split(":")]) for name in read if name[:1] == "["}
    return {**{name: value for name, value in STORED.items() if name in read}, **written}


UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish LeakyRelu Log "
    "Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh "
    "ThresholdedRelu GlobalLpPool GlobalMaxPool Identity"
).split()
BINARY = "Add Sub Mul Div Max Min Mean Sum Pow".split()
REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd".split()
OPERANDS = ("scalar", "one each", "dense", "spatial")

#: What has to be carried: nothing in it mixes channels, or THEORY says how.
CARRIED: dict[str, str] = {
    **{op: f"p = Sigmoid(y); t = {op}(p)" for op in UNARY if op != "Acosh"},
    "Acosh": "p = Exp(y); q = Add(p, scalar); t = Acosh(q)",
    **{f"{op}, {operand}": f"p = Sigmoid(y); t = {op}(p, {operand})" for op in BINARY for operand in OPERANDS},
    **{f"{op}, constant first": f"p = Sigmoid(y); t = {op}(one each, p)" for op in BINARY},
    **{f"{op}, two maps": f"p = Sigmoid(y); q = Sigmoid(a); t = {op}(p, q)" for op in BINARY},
    "Mod": "t = Mod(y, scalar) fmod=1",
    **{f"{op}, space": f"p = Sigmoid(y); q = {op}(p) axes=2:3; t = Mul(y, q)" for op in REDUCTIONS},
    **{f"{op}, channels": f"p = Sigmoid(y); q = {op}(p) axes=1:; t = Mul(y, q)" for op in REDUCTIONS},
    "ArgMax, space": "q = ArgMax(y) axis=2; r = Cast(q) to=1; t = Mul(y, r)",
    "Greater": "q = Greater(y, one each); t = Cast(q) to=1",
    "Where": "q = Less(y, one each); t = Where(q, y, a)",
    "Softmax over space": "t = Softmax(y) axis=3",
    "Gather in space": "t = Gather(y, [0:2:1]) axis=2",
    "Tile in space": "t = Tile(y, [1:1:2:1])",
    "Expand in space": "q = GlobalMaxPool(y); t = Expand(q, [1:8:6:6])",
    "Expand in space, computed": "q = GlobalMaxPool(y); n = Shape(y); t = Expand(q, n)",
    "Slice in space, computed": "n = Shape(y) start=2 end=3; t = Slice(y, [0], n, [2])",
    "Hardmax over space": "p = Hardmax(y) axis=3; t = Add(y, p)",
    "InstanceNormalization": "t = InstanceNormalization(y, eight, eight')",
    "LpPool": "t = LpPool(y) kernel_shape=2:2",
    "CastLike": "t = CastLike(y, a)",
    "Cast there and back": "q = Cast(y) to=10; t = Cast(q) to=1",
    "Clip": "t = Clip(y, , scalar)",
    "quantised": "q = QuantizeLinear(y, scalar, middle); t = DequantizeLinear(q, scalar, middle)",
    "quantised per channel": "q = QuantizeLinear(y, eight, zeros); t = DequantizeLinear(q, eight, zeros)",
    "Resize by scales": "t = Resize(y, , 2x) mode=nearest",
    "Resize to sizes": "n = Shape(y) start=0 end=2; s9 = Concat(n, [9:9]) axis=0; t = Resize(y, , , s9) mode=linear",
    "Pad, reflected": "t = Pad(y, [0:0:1:0:0:0:0:1]) mode=reflect",
    "flat and back": "q = Reshape(y, [-1:288]); t = Reshape(q, [-1:8:6:6])",
    "rows and columns as one": "q = Reshape(y, [0:8:36]); t = Reshape(q, [-1:8:6:6])",
    "shuffle": "q = Reshape(y, [0:2:4:6:6]); r = Transpose(q) perm=0:2:1:3:4; t = Reshape(r, [-1:8:6:6])",
    "Split and Concat": "q, r = Split(y, [3:5]) axis=1; t = Concat(r, q) axis=1",
    "Concat with a narrow map": "q = Concat(y, x) axis=1; t = Slice(q, [3], [7], [1])",
    "Slice": "t = Slice(y, [2], [-1], [1])",
    "Slice, every other": "t = Slice(y, [0], [8], [1], [2])",
    "Slice, backwards": "t = Slice(y, [7], [-100], [1], [-1])",
}

#: What mixes channels in a way of its own: a boundary, by the node's name and with a reason.
BOUNDARY: dict[str, str] = {
    "Gather": "t = Gather(y, [7:6:5:4:3:2:1:0]) axis=1",
    "Softmax": "t = Softmax(y) axis=1",
    "LpNormalization": "t = LpNormalization(y) axis=1",
    "CumSum": "q = CumSum(y, one) ; t = Identity(q)",
    "Einsum": "q = Einsum(y, y) equation=nchw,ndhw->nchw; t = Identity(q)",
    "TopK": "t, order = TopK(y, [8]) axis=1",
    "MatMul": "q = Transpose(y) perm=0:1:3:2; t = MatMul(y, q)",
}

CHANNELS = {"Slice": 5, "Slice, every other": 4, "Concat with a narrow map": 4}


def compiled(text: str, channels: int, folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Compile a network with these nodes behind its layer; what the command printed."""
    nodes = chain(text)
    classifier = np.random.default_rng(2).normal(size=(5, channels))
    model = network(behind=nodes, **stored_for(nodes), **{"fc.w": classifier})
    done = compile_file(model, folder, capsys, *flags)
    assert done.code == 0, done.err
    assert "verified: " in done.out
    return done.out


@pytest.mark.parametrize("name", CARRIED)
def test_what_keeps_channels_apart_is_carried(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = compiled(CARRIED[name], CHANNELS.get(name, 8), tmp_path, capsys, "--strict")
    assert "no rule" not in out


@pytest.mark.parametrize("name", BOUNDARY)
def test_what_mixes_channels_is_a_boundary(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"note: {name}." in compiled(BOUNDARY[name], 8, tmp_path, capsys)
