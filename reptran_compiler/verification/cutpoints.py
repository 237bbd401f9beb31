"""Where a graph is cut: the operators that turn a rounding error into a jump.

Every binarisation, Round, Floor, Ceil, comparison of real numbers, choice of the largest of them, and Cast of real
numbers to integers, booleans or a type of fewer digits is a cut. What lies in front is compared, the operator itself
is tried on special points, and what lies behind is fed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
from onnx import helper

from reptran_compiler.runtime import TensorFact, is_float, unit_roundoff
from reptran_compiler.verification.protograph import NodeView, ProtoGraph, scalar

_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"})
_ROUNDINGS = frozenset({"Round", "Floor", "Ceil", "QuantizeLinear", "DynamicQuantizeLinear"})
#: Choices, and which of their outputs says what was chosen; the numbers that TopK sorts do not jump.
_CHOICES: Mapping[str, int] = MappingProxyType({"ArgMax": 0, "ArgMin": 0, "Hardmax": 0, "TopK": 1})
_SHAPE_ONLY = frozenset({"Shape", "Size"})


class CutKind(str, Enum):
    """What happens at a cut; at a bend nothing is cut, but the operator is tried as those of cuts are."""

    SIGN = "sign, 0 at 0"
    SIGN_UP = "sign, +1 at 0"
    ROUND = "rounding"
    COMPARE = "comparison"
    CAST = "cast to integers, booleans or fewer digits"
    BEND = "bound or slope"
    CHOICE = "choice of the largest"


#: The cuts behind which values are fed that the tensor took in a run.
OBSERVED = (CutKind.ROUND, CutKind.CAST, CutKind.CHOICE)


@dataclass(frozen=True, eq=False)
class CutPoint:
    """One cut.

    Attributes:
        output: the tensor behind it.
        inputs: the tensors in front of it that depend on the graph's inputs, each once.
        nodes: the nodes between.
        kind: what they do.
    """

    output: str
    inputs: tuple[str, ...]
    nodes: tuple[NodeView, ...]
    kind: CutKind

    @property
    def inside(self) -> frozenset[str]:
        """The tensors between the two sides, and the one behind: not what the last node computes besides."""
        between = {name for node in self.nodes[:-1] for name in node.outputs}
        return frozenset(between | {self.output})

    @property
    def binarises(self) -> bool:
        """Whether what lies behind is +1 or -1 (or 0)."""
        return self.kind in (CutKind.SIGN, CutKind.SIGN_UP)


def data_tensors(graph: ProtoGraph) -> frozenset[str]:
    """The tensors that depend on values of graph inputs, rather than on constants and shapes alone."""
    known = set(graph.inputs)
    for node in graph.nodes:
        if node.op not in _SHAPE_ONLY and any(name in known for name in node.reads):
            known.update(name for name in node.outputs if name)
    return frozenset(known)


def find_cuts(graph: ProtoGraph, facts: Mapping[str, TensorFact], data: frozenset[str]) -> list[CutPoint]:
    """All cuts of a graph, in the order of its nodes.

    Args:
        graph: the graph.
        facts: shape and dtype of its tensors.
        data: `data_tensors(graph)`.
    """
    cuts: dict[int, CutPoint] = {}
    claimed: set[int] = set()
    for node in graph.nodes:
        found = _sibling(graph, node)
        if found is not None and found.inputs[0] in data:
            cuts[node.index] = found
            claimed.update(inner.index for inner in found.nodes)
    for node in graph.nodes:
        if node.index not in claimed and node.outputs[0] in data and (kind := _jump(node, facts)):
            inputs = tuple(dict.fromkeys(name for name in node.inputs if name in data))
            place = _CHOICES.get(node.op, 0)
            if place < len(node.outputs) and (output := node.outputs[place]):
                cuts[node.index] = CutPoint(output, inputs, (node,), kind)
    return [cuts[node.index] for node in graph.nodes if node.index in cuts]


def _jump(node: NodeView, facts: Mapping[str, TensorFact]) -> CutKind | None:
    """How a single operator jumps, or None when it is continuous or exact."""
    real = any(name in facts and is_float(facts[name].dtype) for name in node.inputs[:2])
    if not real:
        return None
    if node.op == "Sign":
        return CutKind.SIGN
    if node.op in _ROUNDINGS:
        return CutKind.ROUND
    if node.op in _CHOICES:
        return CutKind.CHOICE
    if node.op in _COMPARISONS:
        return CutKind.COMPARE
    if node.op == "Cast":
        target = helper.tensor_dtype_to_np_dtype(node.attribute("to"))
        if not is_float(target) or unit_roundoff(target) > unit_roundoff(facts[node.inputs[0]].dtype):
            return CutKind.CAST
    return None


def _sibling(graph: ProtoGraph, node: NodeView) -> CutPoint | None:
    """The cut of a canonical binarisation that is +1 at 0 and ends in `node`, if that is what it is."""
    if node.op == "Where" and _constant(graph, node.input(1)) == 1.0 and _constant(graph, node.input(2)) == -1.0:
        return _not_below(graph, node.input(0), (node,), node.outputs[0])
    if node.op == "Sub" and _constant(graph, node.input(1)) == 1.0:
        product = _made_for(graph, node.input(0), "Mul")
        if product is not None and _constant(graph, product.input(1)) == 2.0:
            cast = _made_for(graph, product.input(0), "Cast")
            if cast is not None:
                return _not_below(graph, cast.input(0), (cast, product, node), node.outputs[0])
    return None


def _not_below(graph: ProtoGraph, mask: str, nodes: tuple[NodeView, ...], output: str) -> CutPoint | None:
    """The cut whose mask says x >= 0, spelled with GreaterOrEqual or with Not and Less."""
    comparison = _made_for(graph, mask, "GreaterOrEqual")
    front: tuple[NodeView, ...] = ()
    if comparison is None:
        negation = _made_for(graph, mask, "Not")
        comparison = _made_for(graph, negation.input(0), "Less") if negation is not None else None
        front = (negation,) if negation is not None else ()
    if comparison is None or _constant(graph, comparison.input(1)) != 0.0:
        return None
    source = comparison.input(0)
    return CutPoint(output, (source,), (comparison, *front, *nodes), CutKind.SIGN_UP)


def _made_for(graph: ProtoGraph, name: str, op: str) -> NodeView | None:
    """The maker of a tensor if it is an `op` and the tensor has one reader and is no graph output."""
    maker = graph.maker.get(name)
    if maker is None or maker.op != op or len(graph.readers.get(name, ())) != 1 or name in graph.outputs:
        return None
    return maker


def _constant(graph: ProtoGraph, name: str) -> float | None:
    """The one number that a constant tensor is; a canonical binarisation holds no dense ones."""
    if name not in graph.constants:
        return None
    value = np.asarray(graph.value(name))
    return scalar(value) if value.size == 1 else None
