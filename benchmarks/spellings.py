"""How a file writes its binarisations, by operators alone: nothing here knows the compiler's patterns."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

#: Operators that decide on a sign.
_DECIDING = frozenset({"Sign", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "BipolarQuant"})
#: Operators that what is decided may pass through before something reads it as a map of signs.
_SHAPING = _DECIDING | frozenset({"Add", "Sub", "Mul", "Neg", "Cast", "Where", "Equal", "Not", "Identity"})
_LAYERS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1}


def spellings(model: ModelProto) -> list[str]:
    """The spellings that a file has, the most frequent first, each as `18 x Sign Add Sign`.

    A spelling is the operators that follow a decision, in the file's order.  Stored weights of one magnitude in each
    filter are a spelling too."""
    found: Counter[str] = Counter()
    readers: dict[str, list[int]] = {}
    nodes = model.graph.node
    for number, node in enumerate(nodes):
        for name in set(node.input):
            readers.setdefault(name, []).append(number)
    seen: set[int] = set()
    for number, node in enumerate(nodes):
        if node.op_type in _DECIDING and number not in seen:
            chain = _behind(nodes, readers, number)
            seen |= chain
            found[" ".join(nodes[each].op_type for each in sorted(chain))] += 1
    found.update(_stored(model.graph))
    return [f"{count} x {spelling}" for spelling, count in found.most_common()]


def _behind(nodes: list[NodeProto], readers: dict[str, list[int]], start: int) -> set[int]:
    """The nodes that a decision passes through, its own among them."""
    chain, stack = {start}, [start]
    while stack:
        for name in nodes[stack.pop()].output:
            following = [each for each in readers.get(name, ()) if nodes[each].op_type in _SHAPING]
            stack += [each for each in following if each not in chain]
            chain.update(following)
    return chain


def _stored(graph: GraphProto) -> Counter[str]:
    """Layers that store signs, or signs times a magnitude of each filter."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found: Counter[str] = Counter()
    for node in graph.node:
        tensor = stored.get(node.input[1]) if node.op_type in _LAYERS else None
        if tensor is None or len(tensor.dims) < 2:
            continue
        axis = 0 if any(note.name == "transB" and note.i for note in node.attribute) else _LAYERS[node.op_type]
        sizes = np.abs(np.moveaxis(numpy_helper.to_array(tensor), axis, 0).reshape(tensor.dims[axis], -1))
        if sizes.shape[1] > 1 and bool(np.isclose(sizes, sizes[:, :1], rtol=1e-6).all()):
            found["stored +-1" if bool((sizes == 1).all()) else "stored +-alpha"] += 1
    return found
