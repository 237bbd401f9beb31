"""The sum over row blocks that a RepConv is (THEORY section 2, item 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto

from reptran_compiler.runtime import TensorFact
from reptran_compiler.verification.carrying import Walk
from reptran_compiler.verification.copies import Copies
from reptran_compiler.verification.protograph import NodeView


def filters(node: NodeView, position: int, facts: Mapping[str, TensorFact]) -> tuple[int, int]:
    """The number of filters (outputs) of a layer, and of its groups."""
    shape = facts[node.inputs[position]].shape
    if node.op == "Conv":
        return shape[0], int(node.attribute("group", 1))
    return shape[filter_axis(node, position, len(shape))], 1


def filter_axis(node: NodeView, position: int, rank: int) -> int:
    """The axis of a layer's weights that counts its filters."""
    if node.op == "Conv":
        return 0
    if node.op == "Gemm":
        return 0 if node.attribute("transB", 0) else 1
    return rank - 2 if position == 0 else rank - 1


def emit_repconv(walk: Walk, node: NodeView, position: int, data: Copies) -> str:
    """Emit `y' = sum over r of Conv(x(r); W(r))`, repeated beta times, and the layer's bias; a copy's name.

    Args:
        walk: the walk.
        node: the layer.
        position: which input holds the weights.
        data: the copies of its input, on the axis that the layer contracts.
    """
    emit, beta = walk.emit, walk.beta
    weight = node.inputs[position]
    count, groups = filters(node, position, walk.facts)
    rank = walk.facts[weight].rank
    axis = filter_axis(node, position, rank)
    output = node.outputs[0]
    blocks = emit.split(weight, [count // groups // beta] * (groups * beta), axis, f"{output}@rows")
    rows = [emit.concat([blocks[g * beta + r] for g in range(groups)], axis, f"{output}@W{r}") for r in range(beta)]
    assert data.axis is not None
    channels = walk.facts[node.inputs[1 - position]].shape[data.axis]
    parts = emit.regroup(data.names, data.axis, groups, channels, f"{output}@in")
    terms = []
    for r, (part, row) in enumerate(zip(parts, rows, strict=True)):
        if node.op == "Conv":
            terms.append(_convolve(walk, node, part, row, f"{output}@term{r}"))
        elif node.op == "MatMul":
            terms.append(emit.add("MatMul", [part, row] if position == 1 else [row, part], f"{output}@term{r}"))
        else:
            matrix = emit.add("Transpose", [row], f"{row}@t", perm=[1, 0]) if node.attribute("transB", 0) else row
            terms.append(emit.add("MatMul", [part, matrix], f"{output}@term{r}"))
    narrow = emit.total(terms, f"{output}@sum")
    made = emit.concat([narrow] * beta, _output_axis(walk, node, position), f"{output}@")
    return _behind(walk, node, made)


def _convolve(walk: Walk, node: NodeView, data: str, weight: str, wish: str) -> str:
    """The convolution itself, without its bias."""
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    output = walk.emit.fresh(wish)
    del proto.input[:], proto.output[:]
    proto.name = output
    proto.input.extend([data, weight])
    proto.output.append(output)
    walk.emit.nodes.append(proto)
    return output


def _output_axis(walk: Walk, node: NodeView, position: int) -> int:
    if node.op == "Conv":
        return 1
    rank = walk.facts[node.outputs[0]].rank
    return rank - 2 if position == 0 and rank > 1 else rank - 1


def _behind(walk: Walk, node: NodeView, made: str) -> str:
    """A layer's own scale and bias, which stay with their channel."""
    emit, output = walk.emit, node.outputs[0]
    dtype = walk.facts[output].dtype
    if node.op == "Gemm" and node.attribute("alpha", 1.0) != 1.0:
        alpha = emit.constant(np.array(node.attribute("alpha")).astype(dtype), "alpha")
        made = emit.add("Mul", [made, alpha], f"{output}@alpha")
    bias = node.input(2)
    if not bias or node.op == "MatMul":
        return made
    if node.op == "Conv":
        ones = [1] * (walk.facts[output].rank - 2)
        shape = emit.constant(np.array([1, -1, *ones], dtype=np.int64), "shape")
        bias = emit.add("Reshape", [bias, shape], f"{output}@bias")
    elif node.attribute("beta", 1.0) != 1.0:
        factor = emit.constant(np.array(node.attribute("beta")).astype(dtype), "beta")
        bias = emit.add("Mul", [bias, factor], f"{output}@bias")
    return emit.add("Add", [made, bias], f"{output}@biased")
