"""Files of one binarisation each, and the points that it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import NodeProto

from benchmarks.backends.calling import save
from reptran_compiler.model.writing import write_bytes

#: The points: name and value.
POINTS = {"-2": -2.0, "-1e-40": -1e-40, "-0": -0.0, "0": 0.0, "1e-40": 1e-40, "2": 2.0, "NaN": np.nan}


def _node(op: str, inputs: str, output: str) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output)


#: The spellings: Sign; the compiler's own `x >= 0`; Larq's.
PROBES: dict[str, tuple[list[NodeProto], dict[str, float]]] = {
    "Sign": ([_node("Sign", "x", "y")], {}),
    "GreaterOrEqual, Where": (
        [_node("GreaterOrEqual", "x zero", "mask"), _node("Where", "mask one minus", "y")],
        {"zero": 0.0, "one": 1.0, "minus": -1.0},
    ),
    "Sign, Add, Sign": (
        [_node("Sign", "x", "signs"), _node("Add", "signs tenth", "moved"), _node("Sign", "moved", "y")],
        {"tenth": 0.1},
    ),
}


def write(folder: Path) -> dict[str, str]:
    """Write the probes into a folder, and their input as points.npz; returns their files by spelling."""
    files = {}
    shape = [1, len(POINTS), 1, 1]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    for number, (spelling, (nodes, constants)) in enumerate(PROBES.items()):
        stored = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "probe", values[:1], values[1:], stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        files[spelling] = f"probe-{number}.onnx"
        write_bytes(model.SerializeToString(), str(folder / files[spelling]))
    save(folder / "points.npz", {"x": np.array(list(POINTS.values()), np.float32).reshape(shape)})
    return files
