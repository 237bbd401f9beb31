"""Bodies and functions: what holds further graphs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from benchmarks.generated.blocks import Block
from benchmarks.generated.builder import Builder, Map

_VALUE = helper.make_tensor_value_info


def choice(b: Builder, x: Map) -> Map:
    """An If whose branches read the map from inside; its condition is computed from the map's batch."""
    two = b.store(np.array(2.0, np.float32), "two")
    count = b.add("Gather", [b.add("Shape", [x.name]), b.store(np.array(0, np.int64), "index")], axis=0)
    flag = b.add("Greater", [count, b.store(np.array(2, np.int64), "two")])
    place = len(b.nodes)
    names = [f"then_{place}", f"else_{place}"]
    nodes = [
        helper.make_node("Mul", [x.name, two], names[:1], name=names[0]),
        helper.make_node("Neg", [x.name], names[1:], name=names[1]),
    ]
    bodies = [
        helper.make_graph([node], name, [], [_VALUE(name, TensorProto.FLOAT, None)])
        for node, name in zip(nodes, names, strict=True)
    ]
    return Map(b.add("If", [flag], then_branch=bodies[0], else_branch=bodies[1]), x.channels, x.space)


def inner_choice(b: Builder, x: Map) -> Map:
    """An If on a map that is wide; mostly left out, because it is refused."""
    b.need(b.opset >= 11, b.chance(0.2))
    return choice(b, x)


def repeated(b: Builder, x: Map) -> Map:
    """A Loop that halves the map twice."""
    b.need(b.opset >= 11)
    place = len(b.nodes)
    trip, go, state = f"trip_{place}", f"go_{place}", f"state_{place}"
    half = b.store(np.array(0.5, np.float32), "half")
    nodes = [
        helper.make_node("Identity", [go], [f"{go}_on"], name=f"keep_{place}"),
        helper.make_node("Mul", [state, half], [f"{state}_next"], name=f"halve_{place}"),
    ]
    body = helper.make_graph(
        nodes,
        f"body_{place}",
        [_VALUE(trip, TensorProto.INT64, []), _VALUE(go, TensorProto.BOOL, []), _VALUE(state, TensorProto.FLOAT, None)],
        [_VALUE(f"{go}_on", TensorProto.BOOL, []), _VALUE(f"{state}_next", TensorProto.FLOAT, None)],
    )
    count = b.store(np.array(2, np.int64), "count")
    return Map(b.add("Loop", [count, "", x.name], body=body), x.channels, x.space)


def function(b: Builder, x: Map) -> Map:
    """An operator of another domain with a body in the file."""
    if not b.functions:
        nodes = [helper.make_node("Tanh", ["i"], ["k"]), helper.make_node("Add", ["k", "k"], ["j"])]
        imports = [helper.make_opsetid("", b.opset)]
        b.functions.append(helper.make_function("acme", "Twice", ["i"], ["j"], nodes, imports))
    return Map(b.add("Twice", [x.name], domain="acme"), x.channels, x.space)


CONTROL: Mapping[str, Block] = {"If on a wide map": inner_choice, "Loop": repeated, "local function": function}
