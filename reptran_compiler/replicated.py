"""Telling a network that has its RepTran form already: a binary layer's output is repeated along its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from reptran_compiler.runtime import TensorFact

_REPEATING = ("Tile", "Expand")
#: Shortcuts double channels by Concat of a map with itself: it counts where it reads the layer's own output.
_BESIDE_ITSELF = "Concat"
_LAYERS = ("Conv", "Gemm", "MatMul")
#: What may stand between a layer and the repetition of its output, or restore its rank behind it.
_CARRYING = frozenset(
    "Add Sub Mul Div BatchNormalization PRelu Identity Cast Unsqueeze Squeeze Reshape Transpose".split()
)


@dataclass(frozen=True)
class Repetition:
    """A layer whose output is repeated.

    Attributes:
        layer: the layer's node name.
        node: the name of the node that repeats.
        factor: how often.
    """

    layer: str
    node: str
    factor: int


def may_repeat(model: ModelProto) -> bool:
    """Whether there is any node that could repeat a layer's output; without one, no shapes are needed."""
    return any(node.op_type in _REPEATING or _repeats_one(node) for node in model.graph.node)


def find_repetition(model: ModelProto, binary: frozenset[str], facts: Mapping[str, TensorFact]) -> Repetition | None:
    """The first layer whose output is repeated along its channels by Tile, Expand or Concat.

    It is a binary layer, or one of real numbers whose input is repeated as well, as that of a drop-in layer is.
    Repetition along other axes (an upsampling) is none: what counts is a tensor of the layer's rank that has a
    multiple of its channels, with nothing but per-channel operators and changes of shape on the way.

    Args:
        model: a network in canonical form.
        binary: names of the layers that read binarised maps.
        facts: shapes of the network's tensors.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        drop_in = node.op_type in _LAYERS and _are_copies(node.input[0], makers)
        if node.name in binary or drop_in:
            found = _repeated(node, readers, facts)
            if found is not None:
                return found
    return None


def _repeated(
    layer: NodeProto, readers: Mapping[str, list[NodeProto]], facts: Mapping[str, TensorFact]
) -> Repetition | None:
    shape = facts[layer.output[0]].shape
    axis = 1 if layer.op_type == "Conv" else len(shape) - 1
    pending: list[tuple[str, str]] = [(layer.output[0], "")]
    seen: set[str] = set()
    while pending:
        name, repeater = pending.pop()
        if name in seen or name not in facts:
            continue
        seen.add(name)
        here = facts[name].shape
        if repeater and len(here) == len(shape) and here[axis] > shape[axis] and here[axis] % shape[axis] == 0:
            return Repetition(layer.name, repeater, here[axis] // shape[axis])
        for node in readers.get(name, []):
            if node.op_type in _REPEATING and node.input[0] == name:
                pending.append((node.output[0], node.name))
            elif name == layer.output[0] and _repeats_one(node):
                pending.append((node.output[0], node.name))
            elif node.op_type in _CARRYING:
                pending.append((node.output[0], repeater))
    return None


def _are_copies(name: str, makers: Mapping[str, NodeProto]) -> bool:
    """Whether a tensor is another one repeated, in one of the three ways of `--repeat`."""
    node = makers.get(name)
    if node is not None and node.op_type == "Reshape":
        node = makers.get(node.input[0])
    return node is not None and (node.op_type in _REPEATING or _repeats_one(node))


def _repeats_one(node: NodeProto) -> bool:
    """Whether a node is Concat of one tensor with itself."""
    return node.op_type == _BESIDE_ITSELF and len(node.input) > 1 and len(set(node.input)) == 1
