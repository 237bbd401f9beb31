"""What is wrong with a model as a structure, before anything is computed from it.

onnxruntime refuses most models that are not well, but not all of them, and some by not coming back. What is checked
here takes time linear in the size of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from reptran_compiler.errors import BadInput
from reptran_compiler.runtime import is_float

#: How deep subgraphs may be nested: protobuf reads some thirty levels from a file.
DEEPEST = 30
#: How many nodes a model may have once its functions stand where they are called.
MOST_NODES = 1 << 22

#: What a function is called by: domain, name, overload.
_Key = tuple[str, str, str]


class Malformed(BadInput):
    """A model that is not well. The message names the node or tensor and says why."""


def check_structure(model: ModelProto) -> None:
    """See that a model is well as a structure.

    It has nodes and outputs; subgraphs are nested no deeper than `DEEPEST`; functions do not call themselves, nor grow
    beyond `MOST_NODES` nodes where they are called; the attributes of a node have names of their own, and values;
    stored tensors hold as many elements as their dims say, and no NaN.

    Raises:
        Malformed: it is not.
    """
    if not model.graph.node:
        raise Malformed("the model's graph has no node")
    if not model.graph.output:
        raise Malformed("the model's graph has no output")
    for tensor in _stored(model.graph):
        _check_tensor(tensor, f"initializer {tensor.name!r}")
    nodes = list(_within(model.graph.node, "the model"))
    for node in nodes:
        _check_attributes(node, inside_function=False)
    sizes = _function_sizes(model.functions)
    if sum(sizes.get(_key(node), 1) for node in nodes) > MOST_NODES:
        raise Malformed(f"the model has more than {MOST_NODES:,} nodes where its functions stand for their calls")


def _within(nodes: Iterable[NodeProto], called: str) -> Iterator[NodeProto]:
    """Nodes and those of their subgraphs, whose stored tensors are checked on the way."""
    stack = [(node, 0) for node in nodes]
    while stack:
        node, depth = stack.pop()
        yield node
        for body in _bodies(node):
            if depth >= DEEPEST:
                raise Malformed(f"{called} has subgraphs nested more than {DEEPEST} deep")
            for tensor in _stored(body):
                _check_tensor(tensor, f"initializer {tensor.name!r} in a subgraph of {node.op_type} {node.name!r}")
            stack += [(inner, depth + 1) for inner in body.node]


def _bodies(node: NodeProto) -> list[GraphProto]:
    """Every graph that a node holds, whatever its attributes say of their types."""
    found = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found + [body for attribute in node.attribute for body in attribute.graphs]


def _stored(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


# -- functions -----------------------------------------------------------------------------------------------


def _function_sizes(functions: Iterable[FunctionProto]) -> dict[_Key, int]:
    """How many nodes each function comes to, with those of the functions that it calls."""
    calls: dict[_Key, list[_Key]] = {}
    for function in functions:
        key = (function.domain, function.name, function.overload)
        if key in calls:
            raise Malformed(f"there are two functions {_called(key)}")
        inner = list(_within(function.node, f"the function {_called(key)}"))
        for node in inner:
            _check_attributes(node, inside_function=True)
        calls[key] = [_key(node) for node in inner]
    sizes: dict[_Key, int] = {}
    for start in calls:
        _measure(start, calls, sizes)
    return sizes


def _measure(start: _Key, calls: Mapping[_Key, list[_Key]], sizes: dict[_Key, int]) -> None:
    """Add the size of a function, and of those that it calls, to `sizes`."""
    open_calls: set[_Key] = set()
    stack = [start]
    while stack:
        key = stack[-1]
        missing = [] if key in sizes else [each for each in calls[key] if each in calls and each not in sizes]
        if not missing:
            stack.pop()
            open_calls.discard(key)
            sizes.setdefault(key, min(sum(sizes.get(each, 1) for each in calls[key]), MOST_NODES + 1))
            continue
        open_calls.add(key)
        for each in missing:
            if each in open_calls:
                raise Malformed(f"the function {_called(each)} calls itself")
        stack += missing


def _key(node: NodeProto) -> _Key:
    return (node.domain, node.op_type, node.overload)


def _called(key: _Key) -> str:
    return repr(":".join(part for part in key if part))


# -- attributes and tensors ----------------------------------------------------------------------------------


def _check_attributes(node: NodeProto, *, inside_function: bool) -> None:
    names: set[str] = set()
    for attribute in node.attribute:
        what = f"attribute {attribute.name!r} of {node.op_type} {node.name!r}"
        if attribute.name in names:
            raise Malformed(f"{what} is given twice")
        names.add(attribute.name)
        if attribute.ref_attr_name and not inside_function:
            raise Malformed(f"{what} refers to an attribute of a function, but the node is in none")
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            _check_tensor(tensor, what)


def _check_tensor(tensor: TensorProto, what: str) -> None:
    if any(size < 0 for size in tensor.dims):
        raise Malformed(f"{what} has a negative size: {list(tensor.dims)}")
    try:
        values = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise Malformed(f"{what} with dims {list(tensor.dims)} cannot be read: {reason}") from None
    if values.size and is_float(values.dtype) and _has_nan(values):
        raise Malformed(f"{what} holds NaN: what is computed from it cannot be verified")


def _has_nan(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.isnan(np.min(values)))
