"""Which layers of a lowered network compute in integers."""

from __future__ import annotations

import math

import numpy as np

from reptran_compiler.lowering.latency import Convolution, Machine
from reptran_compiler.model import Constant, Graph, Node
from reptran_compiler.replication import binarised
from reptran_compiler.rewriting import Facts

#: Int8 Clip is of this opset.
_OPSET = 12
#: The largest weight that fits uint8 around a zero point.
_LARGEST = 127
#: By which share of its time in floats, and by how many microseconds, a layer has to be faster in integers: the model
#: errs, and several threads share less of what a small layer costs in integers.
_SHARE, _MICROSECONDS = 0.25, 30.0


def integer_layers(graph: Graph, facts: Facts, optimize: str, machine: Machine) -> frozenset[str]:
    """The names of the layers that compute in integers.

    Args:
        graph: the network.
        facts: shapes and types of its tensors.
        optimize: "int8" for all that can, "auto" for those that are faster so; none otherwise.
        machine: where they are to be faster.
    """
    able = _able(graph, facts) if optimize in ("int8", "auto") else []
    if optimize != "auto":
        return frozenset(node.name for node in able)
    return frozenset(node.name for node in able if better_in_integers(_sizes(node, facts), machine))


def better_in_integers(layer: Convolution, machine: Machine) -> bool:
    """Whether a layer is faster in integers by more than the model errs."""
    saved = machine.saves(layer)
    return saved > _MICROSECONDS and saved > _SHARE * machine.floats.microseconds(layer)


def _able(graph: Graph, facts: Facts) -> list[Node]:
    """The convolutions of binarised maps with stored signs, or sums of some."""
    if graph.opset < _OPSET:
        return []
    return [
        node
        for node in graph.nodes
        if node.op_type == "Conv"
        and _reads_signs(node)
        and isinstance(node.inputs[1], Constant)
        and facts.of(node.inputs[0]).dtype == np.float32
        and len(node.inputs[1].shape) == 4
        and node.attrs.get("group", 1) == 1
        and _small_integers(node.inputs[1])
    ]


def _small_integers(weights: Constant) -> bool:
    """Whether weights are signs, or sums of some."""
    values = weights.values
    return bool((np.abs(values) <= _LARGEST).all() and (np.rint(values) == values).all())


def _reads_signs(node: Node) -> bool:
    """Whether a layer without bias reads a binarised map, or one with a bias what `pad-by-layer` makes of that."""
    x = node.inputs[0]
    if len(node.inputs) == 2:
        return binarised(x) is not None
    return bool(x.inputs) and x.inputs[0].op_type == "Add" and binarised(x.inputs[0].inputs[0]) is not None


def _sizes(node: Node, facts: Facts) -> Convolution:
    outputs, inputs, *kernel = node.inputs[1].shape
    _, _, *space = facts.of(node.outputs[0]).shape
    return Convolution(inputs, outputs, math.prod(kernel), math.prod(space))
