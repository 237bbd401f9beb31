"""What becomes of each layer, as far as the graph's connections tell (THEORY section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.rewriting import Facts

_SHAPE_READERS = frozenset({"Shape", "Size"})
_LINEAR = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Roles:
    """Connections of layers, by node name and tensor name.

    Attributes:
        near: tensors that a layer-free path connects with a graph input.
        behind: tensors that a path with a layer on it connects with a graph input.
        before: tensors from which some layer can be reached.
        layers: every layer, and which of its inputs holds its weights.
        depthwise: which of them are depthwise.
    """

    near: frozenset[str]
    behind: frozenset[str]
    before: frozenset[str]
    layers: Mapping[str, int]
    depthwise: frozenset[str]

    def is_classifier(self, node: Node) -> bool:
        """Whether no layer can be reached from a layer."""
        return node.name in self.layers and node.name not in self.depthwise and node.outputs[0].name not in self.before

    def is_inner(self, node: Node) -> bool:
        """Whether a layer can come to read a wide map: it is not depthwise, and some layer lies in front of it."""
        if node.name not in self.layers or node.name in self.depthwise:
            return False
        return node.inputs[1 - self.layers[node.name]].name in self.behind


def weight_index(node: Node, facts: Facts) -> int | None:
    """Which input of a layer holds its constant weights, None where the node is no layer."""
    if node.op_type not in _LINEAR:
        return None
    if facts.constant(node.inputs[1]):
        return None if facts.constant(node.inputs[0]) else 1
    return 0 if node.op == "MatMul" and facts.constant(node.inputs[0]) else None


def find_roles(g: Graph, facts: Facts) -> Roles:
    """The connections of all layers of a graph, its operators in an order that runs."""
    linear = (node for node in g.nodes if node.op_type in _LINEAR)
    layers = {node.name: at for node in linear if (at := weight_index(node, facts)) is not None}
    depthwise = frozenset(
        node.name
        for node in g.nodes
        if node.op == "Conv"
        and node.name in layers
        and node.attrs.get("group", 1) > 1
        and facts.source(node.inputs[1]).shape[1] == 1
    )
    near, behind = {tensor.name for tensor in g.inputs}, set[str]()
    for node in g.nodes:
        if node.op in _SHAPE_READERS:
            continue
        reads = [tensor.name for tensor in node.inputs if isinstance(tensor, Variable)]
        if node.captured:
            reads += node.captured
        is_layer = node.name in layers
        if is_layer or not behind.isdisjoint(reads):
            behind.update([tensor.name for tensor in node.outputs])
        if not is_layer and not near.isdisjoint(reads):
            near.update([tensor.name for tensor in node.outputs])
    before: set[str] = set()
    for node in reversed(g.nodes):
        if node.op in _SHAPE_READERS:
            continue
        if node.name in layers or not before.isdisjoint([tensor.name for tensor in node.outputs]):
            before.update([tensor.name for tensor in node.inputs if tensor.name])
            if node.captured:
                before.update(node.captured)
    return Roles(frozenset(near), frozenset(behind), frozenset(before), layers, depthwise)


def stem_end(g: Graph, node: Node) -> Tensor:
    """The tensor where a stem's output is repeated: behind its bias and its BatchNormalization."""
    out: Tensor = node.outputs[0]
    while len(out.outputs) == 1 and not g.is_output(out):
        reader: Node = out.outputs[0]
        norm = reader.op_type == "BatchNormalization" and len(reader.outputs) == 1
        if not norm and not (reader.op_type == "Add" and any(isinstance(t, Constant) for t in reader.inputs)):
            break
        out = reader.outputs[0]
        if norm:
            break
    return out
