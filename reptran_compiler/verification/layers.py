"""Layers, told from the graph alone: which they are, how they are connected, where their affine ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_SHAPE_ONLY = frozenset({"Shape", "Size"})
_AFFINE = frozenset({"Mul", "Add", "Sub", "Div"})


class Role(str, Enum):
    """What becomes of a layer (THEORY sections 1 and 2)."""

    STEM = "stem"
    REPCONV = "repconv"
    CLASSIFIER = "classifier"
    BOUNDARY = "boundary"
    DEPTHWISE = "depthwise"
    NARROW = "narrow"


@dataclass(frozen=True)
class LayerRole:
    """A layer and what becomes of it.

    Attributes:
        node: the layer's node name.
        op: its operator type.
        role: its role.
        reason: why, where the role needs a reason.
        output: the tensor it makes.
        weight: the tensor of its weights.
        chain: `output` and the tensors behind it along per-channel affine operators; the last is the end of
            its affine.
        groups: the groups of a convolution, 1 otherwise.
        blocks: how the columns of a flattened input lie: `blocks` runs of equal length, each with its own
            copies.
    """

    node: str
    op: str
    role: Role
    reason: str
    output: str
    weight: str
    chain: tuple[str, ...]
    groups: int = 1
    blocks: int = 1

    @property
    def tail(self) -> str:
        """The end of the layer's affine."""
        return self.chain[-1]


def weight_position(graph: ProtoGraph, node: NodeView) -> int | None:
    """Which input of a layer holds its weights; None when the node is no layer.

    A layer is a Conv or Gemm with constant weights, or a MatMul with one constant operand.
    """
    if node.op not in _LAYERS or node.outputs[0] in graph.constants:
        return None
    if node.input(1) in graph.constants:
        return 1
    if node.op == "MatMul" and node.input(0) in graph.constants:
        return 0
    return None


def is_layer(graph: ProtoGraph, node: NodeView) -> bool:
    """Whether a node is a convolution or linear layer."""
    return weight_position(graph, node) is not None


def is_depthwise(node: NodeView, facts: Mapping[str, TensorFact]) -> bool:
    """Whether a node is a depthwise convolution: as many groups as input channels, and more than one."""
    groups = int(node.attribute("group", 1))
    return node.op == "Conv" and groups > 1 and facts[node.input(1)].shape[1] == 1


def near_inputs(graph: ProtoGraph) -> frozenset[str]:
    """The tensors that some path without a layer connects with a graph input (shapes connect nothing)."""
    near = set(graph.inputs)
    for node in graph.nodes:
        if node.op in _SHAPE_ONLY or is_layer(graph, node):
            continue
        if any(name in near for name in node.reads):
            near.update(name for name in node.outputs if name)
    return frozenset(near)


def before_layers(graph: ProtoGraph) -> frozenset[str]:
    """The tensors from which some layer can be reached (shapes connect nothing)."""
    before: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op in _SHAPE_ONLY:
            continue
        if is_layer(graph, node) or any(name in before for name in node.outputs):
            before.update(node.reads)
    return frozenset(before)


def channel_axis(graph: ProtoGraph, node: NodeView, facts: Mapping[str, TensorFact]) -> int:
    """The axis of a layer's output that holds its filters."""
    if node.op == "Conv":
        return 1
    rank = facts[node.outputs[0]].rank
    left = weight_position(graph, node) == 0
    return rank - 2 if left and rank > 1 else rank - 1


def affine_chain(graph: ProtoGraph, facts: Mapping[str, TensorFact], start: str, axis: int) -> tuple[str, ...]:
    """`start` and the tensors behind it along single-reader, per-channel affine operators.

    Args:
        graph: the graph.
        facts: shapes.
        start: where the chain begins.
        axis: the channel axis of `start`.
    """
    chain = [start]
    while True:
        name = chain[-1]
        readers = graph.readers.get(name, ())
        if len(readers) != 1 or name in graph.outputs or not is_affine(graph, facts, readers[0], name, axis):
            return tuple(chain)
        chain.append(readers[0].outputs[0])


def is_affine(graph: ProtoGraph, facts: Mapping[str, TensorFact], node: NodeView, name: str, axis: int) -> bool:
    """Whether a node is a per-channel affine operator on tensor `name` with channels on `axis`."""
    if node.op == "BatchNormalization":
        inference = node.attribute("training_mode", 0) == 0 and sum(1 for out in node.outputs if out) == 1
        return inference and axis == 1 and all(other in graph.constants for other in node.inputs[1:])
    if node.op not in _AFFINE or len(node.inputs) != 2 or name not in facts:
        return False
    other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
    if other not in graph.constants or (node.op == "Div" and node.inputs[1] == name):
        return False
    if other not in facts:
        return False
    rank, sizes = facts[name].rank, facts[other].shape
    if len(sizes) > rank or facts[node.outputs[0]].shape != facts[name].shape:
        return False
    offset = rank - len(sizes)
    return all(size == 1 or offset + position == axis for position, size in enumerate(sizes))
