"""What becomes of each layer, as far as the graph's connections tell (THEORY section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable


def weight_index(node: Node) -> int | None:
    """Which input of a layer holds its constant weights, None where the node is no layer."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    if constant_above(node.inputs[1]):
        return None if constant_above(node.inputs[0]) else 1
    return 0 if node.op == "MatMul" and constant_above(node.inputs[0]) else None


def constant_above(tensor: Tensor) -> bool:
    """Whether a tensor is stored, or computed from stored tensors alone."""
    stack, seen = [tensor], set()
    while stack:
        here = stack.pop()
        if id(here) in seen or here.name == "":
            continue
        seen.add(id(here))
        if isinstance(here, Constant):
            continue
        if not here.inputs:
            return False
        if not here.inputs[0].inputs and here.inputs[0].op != "Constant":
            return False
        stack += here.inputs[0].inputs
    return True


@dataclass(frozen=True)
class Roles:
    """Connections of layers, by node name and tensor name.

    Attributes:
        near: tensors that a layer-free path connects with a graph input.
        before: tensors from which some layer can be reached.
        layers: every layer and its weight's position.
        depthwise: which of them are depthwise.
    """

    near: frozenset[str]
    before: frozenset[str]
    layers: Mapping[str, int]
    depthwise: frozenset[str]

    def is_classifier(self, node: Node) -> bool:
        """Whether no layer can be reached from a layer."""
        return node.name not in self.depthwise and node.outputs[0].name not in self.before


def find_roles(g: Graph, facts: Mapping[str, Any]) -> Roles:
    """The connections of all layers of a graph."""
    layers = {node.name: at for node in g.nodes if (at := weight_index(node)) is not None}
    depthwise = frozenset(
        node.name
        for node in g.nodes
        if node.op == "Conv"
        and node.name in layers
        and node.attrs.get("group", 1) > 1
        and _columns(node.inputs[1], facts) == 1
    )
    near = {t.name for t in g.inputs}
    for node in g.nodes:
        if node.op in ("Shape", "Size") or node.name in layers:
            continue
        if any(t.name in near for t in node.inputs if isinstance(t, Variable)):
            near.update(t.name for t in node.outputs)
    before: set[str] = set()
    for node in reversed(g.nodes):
        if node.op in ("Shape", "Size"):
            continue
        if node.name in layers or any(t.name in before for t in node.outputs):
            before.update(t.name for t in node.inputs if t.name)
    return Roles(frozenset(near), frozenset(before), layers, depthwise)


def _columns(weight: Tensor, facts: Mapping[str, Any]) -> int:
    shape = weight.shape if isinstance(weight, Constant) else facts[weight.name].shape
    return int(shape[1])
