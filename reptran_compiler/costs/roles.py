"""A sensible guess at each layer's role, for models that no compiler has looked at."""

from __future__ import annotations

from collections.abc import Mapping

from .report import LayerKind, Role
from .shapes import Shapes
from .view import STANDARD_DOMAINS, Operator, View, attribute

#: Operators that take their weight as either operand, and those that take it as the second.
LINEAR = frozenset({"Gemm", "MatMul", "MatMulInteger"})
CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "ConvTranspose"})


def weight_operand(view: View, node: Operator) -> int | None:
    """The position of a layer's constant weight among its inputs; None where the node is no such layer."""
    if node.domain not in STANDARD_DOMAINS or node.output[0] in view.static or len(node.input) < 2:
        return None
    if node.op_type in CONVOLUTIONS:
        return 1 if node.input[1] in view.static else None
    if node.op_type in LINEAR and view.operands(node) is not None:
        return 1 if node.input[1] in view.static else 0
    return None


def is_depthwise(shapes: Shapes, node: Operator) -> bool:
    """Whether a convolution has one group for each of its input channels, and more than one."""
    group = int(attribute(node, "group", 1))
    return node.op_type in {"Conv", "ConvInteger"} and group > 1 and shapes.shape(node.input[1])[1] == 1


def find_layers(view: View) -> dict[int, int]:
    """The position of the weight among the inputs of each layer, by node index."""
    return {index: slot for index, node in enumerate(view.nodes) if (slot := weight_operand(view, node)) is not None}


def guess_layers(
    view: View, layers: Mapping[int, int], shapes: Shapes, given: Mapping[str, LayerKind] | None = None
) -> dict[int, LayerKind]:
    """What each of ``layers`` is, by node index: as ``given`` by node name, else from the graph alone.

    A stem is a layer that some layer-free path and no other path connects with a graph input; a classifier
    one from whose output no other layer is reached; a depthwise convolution behind a layer is "depthwise", a
    ConvTranspose a "boundary", and everything else a "repconv". Binary is what multiplies a binarised map by
    +-1.
    """
    known = given or {}
    if all(view.names[index] in known for index in layers):
        return {index: known[view.names[index]] for index in layers}
    passed, reaching = _behind(view, layers), _ahead(view, layers)
    result: dict[int, LayerKind] = {}
    for index, slot in layers.items():
        node = view.nodes[index]
        if view.names[index] in known:
            result[index] = known[view.names[index]]
            continue
        data, weight = node.input[1 - slot], node.input[slot]
        role: Role
        if node.op_type == "ConvTranspose":
            role = "boundary"
        elif data not in passed:
            role = "stem"
        elif is_depthwise(shapes, node):
            role = "depthwise"
        else:
            role = "repconv" if any(name in reaching for name in node.output) else "classifier"
        result[index] = LayerKind(role, view.is_binary_map(data) and view.is_binary_weight(weight))
    return result


def _behind(view: View, layers: Mapping[int, int]) -> set[str]:
    """The tensors that lie behind some layer (a ConvTranspose is none)."""
    passed: set[str] = set()
    for index, node in enumerate(view.nodes):
        is_layer = index in layers and node.op_type != "ConvTranspose"
        if is_layer or any(name in passed for name in node.input):
            passed.update(name for name in node.output if name not in view.static)
    return passed


def _ahead(view: View, layers: Mapping[int, int]) -> set[str]:
    """The tensors that some layer reads, at once or later."""
    reaching: set[str] = set()
    for index in range(len(view.nodes) - 1, -1, -1):
        node = view.nodes[index]
        is_layer = index in layers and node.op_type != "ConvTranspose"
        if is_layer or any(name in reaching for name in node.output):
            reaching.update(name for name in node.input if name not in view.static)
    return reaching
