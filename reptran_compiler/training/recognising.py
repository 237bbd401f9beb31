"""What a graph has where: binarisations, layers, repetitions, and what its tensors are used as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.gate.operands import Use, use_of
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

Array = NDArray[Any]

LAYERS = ("Conv", "Gemm", "MatMul")
#: The share of weights that may be 0 where a file stores binary ones.
_ZEROS = 1e-3


@dataclass(frozen=True)
class Binarisation:
    """A canonical binarisation (THEORY section 4).

    Attributes:
        reader: the operator that reads what is binarised, as its first input.
        up: whether it is +1 at 0; else it is 0 there.
    """

    reader: NodeView
    up: bool


def uses(graph: ProtoGraph) -> dict[str, Use]:
    """What each tensor is used as by the first of its readers, the weight of a layer before all else."""
    found: dict[str, Use] = {}
    for node in reversed(graph.nodes):
        for position, name in enumerate(node.inputs):
            use = use_of(graph, node, position, found.get(node.outputs[0], Use.FIXED))
            if name and (use is Use.WEIGHT or found.get(name, Use.FIXED) is Use.FIXED):
                found[name] = use
    return found


def in_front_of_layers(graph: ProtoGraph) -> set[str]:
    """The tensors that a layer is behind."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op in LAYERS or any(name in found for name in node.outputs):
            found.update(name for name in node.inputs if name)
    return found


def behind_layers(graph: ProtoGraph) -> set[str]:
    """The tensors that are behind a layer."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op in LAYERS or any(name in found for name in node.inputs):
            found.update(name for name in node.outputs if name)
    return found


def binarised(graph: ProtoGraph, node: NodeView) -> Binarisation | None:
    """The canonical binarisation that ends in a node; None where none does."""
    if node.op == "Sign":
        return Binarisation(node, up=False)
    if node.op == "Where" and _is(graph, node.inputs[1], 1.0) and _is(graph, node.inputs[2], -1.0):
        return _not_below_zero(graph, node.inputs[0])
    if node.op == "Sub" and _is(graph, node.inputs[1], 1.0):
        double = graph.maker.get(node.inputs[0])
        if double is not None and double.op == "Mul" and _is(graph, double.inputs[1], 2.0):
            cast = graph.maker.get(double.inputs[0])
            if cast is not None and cast.op == "Cast":
                return _not_below_zero(graph, cast.inputs[0])
    return None


def _not_below_zero(graph: ProtoGraph, mask: str) -> Binarisation | None:
    compare = graph.maker.get(mask)
    wanted = "GreaterOrEqual"
    if compare is not None and compare.op == "Not":
        compare, wanted = graph.maker.get(compare.inputs[0]), "Less"
    if compare is None or compare.op != wanted or not _is(graph, compare.inputs[1], 0.0):
        return None
    return Binarisation(compare, up=True)


def _is(graph: ProtoGraph, name: str, value: float) -> bool:
    """Whether a tensor is a constant of one number."""
    if name not in graph.constants:
        return False
    held = graph.value(name)
    return held.size == 1 and float(held.reshape(-1)[0]) == value


def repetition(graph: ProtoGraph, node: NodeView) -> int:
    """How often a node repeats what it reads along axis 1, and nothing else; 1 where it does another thing."""
    if node.op == "Tile" and node.inputs[1] in graph.constants:
        times = graph.value(node.inputs[1]).reshape(-1)
        return int(times[1]) if len(times) > 1 and times.prod() == times[1] else 1
    if node.op == "Concat" and len(set(node.inputs)) == 1 and int(node.attribute("axis")) == 1:
        return len(node.inputs)
    return 1


def are_signs(values: Array) -> bool:
    """Whether an array holds binary weights: 1 and -1, and hardly a 0."""
    sizes = np.abs(values)
    zeros = int(np.count_nonzero(values == 0))
    if zeros > max(3, _ZEROS * values.size) or not ((sizes == 1) | (values == 0)).all():
        return False
    return bool((values > 0).any() and (values < 0).any())
