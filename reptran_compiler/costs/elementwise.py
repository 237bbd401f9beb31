"""Work on single elements: which kind a node's is, and which tensor's elements it is counted by."""

from __future__ import annotations

from .shapes import Shapes
from .trailing import Trails
from .view import STANDARD_DOMAINS, Operator, View, attribute

#: Operators without arithmetic of their own: they name, reshape or describe what is there.
FREE = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Shape Size Dropout Constant Cast CastLike"
    " SequenceAt SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceLength".split()
)
_MOVES = frozenset(
    "Transpose Slice Split Pad Gather GatherElements GatherND DepthToSpace SpaceToDepth Resize Upsample".split()
)
_COPIES = frozenset({"Tile", "Expand", "Concat", "ConcatFromSequence"})
_ACTIVATIONS = frozenset(
    "Relu LeakyRelu Clip Sigmoid HardSigmoid Tanh HardSwish Elu Selu Celu Gelu Swish Mish Softplus Softsign"
    " Softmax LogSoftmax ThresholdedRelu Erf".split()
)
_REDUCTIONS = frozenset("ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ArgMax ArgMin".split())
_FIXED = {
    "BatchNormalization": "batch_norm",
    "PRelu": "prelu",
    "MaxPool": "max_pool",
    "GlobalMaxPool": "max_pool",
}
_BINARY = {"Add": "map_add", "Sub": "map_add", "Mul": "map_mul", "Div": "map_mul"}


def kind_of(view: View, shapes: Shapes, trails: Trails, index: int) -> tuple[str, str] | None:
    """(kind, the tensor whose elements are counted) of a node that is no layer; None where it has no work.

    Constant arithmetic has none: it is done once, not once a sample.
    """
    node = view.nodes[index]
    output = next(filter(None, node.output), "")
    if not output or output in view.static or index in view.absorbed:
        return None
    if node.domain not in STANDARD_DOMAINS:
        return "other", output
    if output in view.binarised:
        return "sign", output
    if node.op_type in FREE:
        return None
    if node.op_type in _MOVES:
        return "move", output
    if node.op_type == "SplitToSequence":
        return "move", node.input[0]
    if node.op_type in _COPIES:
        return "copy", output
    if node.op_type in _ACTIVATIONS:
        return "activation", output
    if node.op_type in _BINARY:
        return _arithmetic(view, trails, node), output
    if node.op_type in {"GlobalAveragePool", "AveragePool"} or node.op_type in _REDUCTIONS:
        return _pooling(view, shapes, node)
    return _FIXED.get(node.op_type, "other"), output


def _arithmetic(view: View, trails: Trails, node: Operator) -> str:
    operands = view.operands(node)
    if operands is None:
        return _BINARY[node.op_type]
    root = view.root(operands[1])
    behind = trails.behind(operands[0]) is not None
    if not behind and (root is None or root.size == 1):
        return "other"
    if node.op_type in {"Add", "Sub"}:
        return "bias_add"
    return "scale" if behind else "per_channel_mul"


def _pooling(view: View, shapes: Shapes, node: Operator) -> tuple[str, str]:
    source, output = node.input[0], node.output[0]
    shapes.require((source,))
    rank = len(shapes.shape(source))
    if node.op_type == "GlobalAveragePool":
        return "global_pool", source
    if node.op_type == "AveragePool":
        covers = tuple(attribute(node, "kernel_shape", ())) == shapes.shape(source)[2:]
        return ("global_pool", source) if covers and not any(attribute(node, "pads", ())) else ("average_pool", output)
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        axes = view.value(node.input[1])
    spatial = axes is not None and rank > 2 and {int(axis) % rank for axis in axes} == set(range(2, rank))
    return ("global_pool" if spatial and node.op_type in {"ReduceMean", "ReduceSum"} else "reduction"), source
