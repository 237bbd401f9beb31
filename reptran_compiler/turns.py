"""How many turns the Loops of a model make, where the file itself says it: a Loop need not end."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from reptran_compiler.model.referred import array_of
from reptran_compiler.model.subgraphs import bodies

#: The numbers and truth values that are stored, by the names of their tensors, those of inner graphs first.
Known: TypeAlias = ChainMap[str, int]

_OWN = ("", "ai.onnx")


def certain_turns(model: ModelProto) -> Iterator[tuple[NodeProto, float]]:
    """The Loops that nothing ends before their last turn, each with how often its body runs.

    A Loop inside of another runs in each turn of that. What is computed is not known, so that a Loop may well make
    more turns than is said here.
    """
    scopes: list[tuple[Iterable[NodeProto], Known, float]] = [
        (model.graph.node, ChainMap(_stored(model.graph.initializer, model.graph.node)), 1),
        *((function.node, ChainMap(_stored((), function.node)), 1) for function in model.functions),
    ]
    while scopes:
        nodes, known, around = scopes.pop()
        for node in nodes:
            turns = around
            if node.op_type == "Loop" and node.domain in _OWN and len(bodies(node)) == 1:
                turns *= _turns(node, bodies(node)[0], known)
                yield node, turns
            for body in bodies(node):
                scopes.append((body.node, known.new_child(_stored(body.initializer, body.node)), turns))


def _turns(loop: NodeProto, body: GraphProto, known: Known) -> float:
    """How many turns a Loop makes at the least; infinite where it never ends."""
    count, go_on = (*loop.input, "", "")[:2]
    begins = True if not go_on else bool(known.get(go_on, False))
    if not begins or (count and count not in known):
        return 0
    turns = max(known[count], 0) if count else math.inf
    return turns if _goes_on(body, known) else min(turns, 1)


def _goes_on(body: GraphProto, known: Known) -> bool:
    """Whether the body of a Loop never ends it: it hands the condition through, or says yes."""
    if len(body.input) < 2 or not body.output:
        return False
    inside = known.new_child(_stored(body.initializer, body.node))
    makers = {name: node for node in body.node for name in node.output}
    name, seen = body.output[0].name, set[str]()
    while name in makers and makers[name].op_type == "Identity" and name not in seen and makers[name].input:
        seen.add(name)
        name = makers[name].input[0]
    return name == body.input[1].name or bool(inside.get(name, False))


def _stored(tensors: Iterable[TensorProto], nodes: Iterable[NodeProto]) -> dict[str, int]:
    """The integers and truth values among stored tensors and Constants."""
    held = {tensor.name: tensor for tensor in tensors}
    found = {}
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" and node.output else ():
            if attribute.type == AttributeProto.INT:
                found[node.output[0]] = int(attribute.i)
            elif attribute.type == AttributeProto.TENSOR:
                held[node.output[0]] = attribute.t
    for name, tensor in held.items():
        if tensor.data_type in (TensorProto.INT64, TensorProto.BOOL) and math.prod(tensor.dims) == 1:
            found[name] = int(array_of(tensor).reshape(-1)[0])
    return found
