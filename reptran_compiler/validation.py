"""What is wrong with a model as a structure, before anything is computed from it.

onnxruntime refuses most models that are not well, but not all of them, and some by not coming back. What is checked
here takes time linear in the size of the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.protos import element_dtype
from reptran_compiler.model.referred import array_of, blocks_of, is_referred
from reptran_compiler.runtime import is_float
from reptran_compiler.turns import certain_turns
from reptran_compiler.verification import MalformedGraph
from reptran_compiler.verification.protograph import ProtoGraph

#: How deep subgraphs may be nested: protobuf reads some thirty levels from a file.
DEEPEST = 30
#: How many nodes a model may have once its functions stand where they are called.
MOST_NODES = 1 << 16
#: How many turns a Loop may make that nothing ends before: it runs some tens of times while a model is verified.
MOST_TURNS = 10_000

#: Operators whose stored operands are factors: an infinite one makes NaN of a zero.
_MULTIPLY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "Div", "BatchNormalization", "PRelu"})
_OWN = ("", "ai.onnx")
#: What onnxruntime and shape inference understand alike.
_PADDINGS = (b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID")
#: Tensors of up to so many elements are looked at together.
_SMALL = 4096
_FLAGS = frozenset(
    "allowzero ceil_mode count_include_pad keepdims noop_with_empty_axes training_mode transA transB".split()
)
#: Attributes with numbers for each axis of a window. Where onnxruntime does not know a rank, it takes empty ones.
_WINDOWS = frozenset("dilations kernel_shape pads strides".split())

#: What a function is called by: domain, name, overload.
_Key = tuple[str, str, str]


class Malformed(BadInput):
    """A model that is not well. The message names the node or tensor and says why."""


def check_structure(model: ModelProto) -> ProtoGraph:
    """See that a model is well as a structure.

    It has outputs of different names, and nodes, but no more than `MOST_NODES` of them, functions counted where they
    are called; Loops make no more than `MOST_TURNS` turns, as far as the file says it; subgraphs are nested no deeper
    than `DEEPEST`; stated types exist; functions do not call themselves, nor stand for ONNX' own operators; the
    attributes of a node have names of their own, and values, of which the automatic padding is one that exists and
    flags are 0 or 1; stored tensors have names of their own, hold as many elements as their dims say, and are dense;
    they hold no NaN, no infinity where they are factors, and no denormal number where they are divisors, nor do the
    numbers of attributes; names and texts are UTF-8; what a node of the main graph reads is made once, and none of them
    depends on itself.

    Returns:
        Its graph.

    Raises:
        Malformed: it is not.
    """
    if not model.graph.node:
        raise Malformed("the model's graph has no node")
    if not model.graph.output:
        raise Malformed("the model's graph has no output")
    if len(model.graph.node) > MOST_NODES:
        raise Malformed(f"the model has {len(model.graph.node):,} nodes; models of up to {MOST_NODES:,} are read")
    types = frozenset(TensorProto.DataType.values())
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type not in types:
            raise Malformed(f"tensor {value.name!r} is stated to be of a type that ONNX does not know")
    _check_texts(model)
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        if (name := _repeated(value.name for value in values)) is not None:
            raise Malformed(f"graph {what} {name!r} is there twice")
    _check_stored(model.graph)
    nodes = []
    for node, factor in _within(model.graph.node, "the model"):
        nodes.append(node)
        _check_text(f"a {_shown(node.op_type)} node", node.name, node.op_type, node.domain, node.doc_string)
        _check_text(f"an operand of node {node.name!r}", *node.input, *node.output)
        _check_attributes(node, inside_function=False, factor=factor)
    sizes = _function_sizes(model.functions)
    if sum(sizes.get(_key(node), 1) for node in nodes) > MOST_NODES:
        raise Malformed(f"the model has more than {MOST_NODES:,} nodes, those of functions counted at each call")
    for loop, turns in certain_turns(model):
        if turns > MOST_TURNS:
            said = "does not end" if math.isinf(turns) else f"makes {int(turns):,} turns"
            called = loop.name or " ".join(loop.output)
            raise Malformed(f"Loop {called!r} {said}; Loops of up to {MOST_TURNS:,} turns are run")
    try:
        return ProtoGraph(model)
    except MalformedGraph as error:
        raise Malformed(f"the graph is malformed: {error}") from None


def _repeated(names: Iterable[str]) -> str | None:
    """The first name that is there twice, None where each is there once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _check_texts(model: ModelProto) -> None:
    graph = model.graph
    _check_text("the model", model.producer_name, model.domain, model.doc_string, graph.name, graph.doc_string)
    for entry in model.metadata_props:
        _check_text("the metadata", entry.key, entry.value)
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        _check_text("a stated tensor", value.name, value.doc_string, *(axis.dim_param for axis in axes))


def _check_text(what: str, *texts: str) -> None:
    """Refuse what is no UTF-8, which protobuf gives as bytes."""
    if bytes in set(map(type, texts)):
        text = next(text for text in texts if isinstance(text, bytes))
        raise Malformed(f"a name or text of {what} is no UTF-8: {text!r}")


def _shown(text: str) -> str:
    return text if isinstance(text, str) else repr(text)


def _within(nodes: Sequence[NodeProto], called: str) -> Iterator[tuple[NodeProto, bool]]:
    """Nodes and those of their subgraphs, whose stored tensors are checked on the way, each with whether the numbers
    that it holds are factors."""
    stack = [(node, 0, factor) for node, factor in _with_factors(nodes)]
    while stack:
        node, depth, factor = stack.pop()
        yield node, factor
        for body in _bodies(node):
            if depth >= DEEPEST:
                raise Malformed(f"{called} has subgraphs nested more than {DEEPEST} deep")
            _check_stored(body, f" in a subgraph of {node.op_type} {node.name!r}")
            stack += [(inner, depth + 1, factor) for inner, factor in _with_factors(body.node)]


def _with_factors(nodes: Sequence[NodeProto]) -> Iterator[tuple[NodeProto, bool]]:
    """Nodes, each with whether the numbers that it holds are factors: it multiplies, or hands them to one that does."""
    factors = _factors(nodes)
    for node in nodes:
        held = node.op_type == "Constant" and not factors.isdisjoint(node.output)
        yield node, held or node.op_type in _MULTIPLY


def _factors(nodes: Iterable[NodeProto]) -> set[str]:
    """The names of what is multiplied."""
    return {name for node in nodes if node.op_type in _MULTIPLY for name in node.input}


def _bodies(node: NodeProto) -> list[GraphProto]:
    """Every graph that a node holds, whatever its attributes say of their types."""
    found = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found + [body for attribute in node.attribute for body in attribute.graphs]


# -- functions -----------------------------------------------------------------------------------------------


def _function_sizes(functions: Iterable[FunctionProto]) -> dict[_Key, int]:
    """How many nodes each function comes to, with those of the functions that it calls."""
    calls: dict[_Key, list[_Key]] = {}
    for function in functions:
        key = (function.domain, function.name, function.overload)
        if function.domain in _OWN:
            raise Malformed(f"the function {_called(key)} has the name of an operator of ONNX' own domain")
        if key in calls:
            raise Malformed(f"there are two functions {_called(key)}")
        calls[key] = []
        for node, factor in _within(function.node, f"the function {_called(key)}"):
            _check_attributes(node, inside_function=True, factor=factor)
            calls[key].append(_key(node))
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


def _check_attributes(node: NodeProto, *, inside_function: bool, factor: bool) -> None:
    names: set[str] = set()
    for attribute in node.attribute:
        what = f"attribute {attribute.name!r} of {node.op_type} {node.name!r}"
        _check_text(what, attribute.name, attribute.doc_string)
        if attribute.name in names:
            raise Malformed(f"{what} is given twice")
        names.add(attribute.name)
        if attribute.ref_attr_name and not inside_function:
            raise Malformed(f"{what} refers to an attribute of a function, but the node is in none")
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            _check_tensor(tensor, what, factor=factor)
        given = node.domain in _OWN and not attribute.ref_attr_name
        if given and attribute.name in _FLAGS and attribute.i not in (0, 1):
            raise Malformed(f"{what} is {attribute.i}, which is neither 0 nor 1")
        if given and attribute.name == "auto_pad" and attribute.s not in _PADDINGS:
            raise Malformed(f"{what} is {attribute.s.decode('utf-8', 'replace')!r}, which ONNX does not know")
        if given and attribute.name in _WINDOWS and not attribute.ints:
            raise Malformed(f"{what} is empty: leave it out, or give a number for each axis")
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise Malformed(f"{what} is sparse: store it dense")
        if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            _check_numbers(np.array([attribute.f, *attribute.floats]), what, factor=factor)


def _check_stored(graph: GraphProto, where: str = "") -> None:
    """See that a graph's stored tensors are well, and that no two of them have one name."""
    factors = _factors(graph.node)
    divisors = {name for node in graph.node if node.op_type == "Div" for name in node.input[1:]}
    names: set[str] = set()
    for sparse in graph.sparse_initializer:
        raise Malformed(f"initializer {sparse.values.name!r}{where} is sparse: store it dense")
    well = _are_finite(graph.initializer)
    for tensor in graph.initializer:
        name = tensor.name
        what = f"initializer {name!r}{where}"
        _check_text(what, name, tensor.doc_string)
        if name in names:
            raise Malformed(f"{what} is there twice")
        names.add(name)
        if not well:
            _check_tensor(tensor, what, factor=name in factors)
        if name in divisors and _holds_denormals(array_of(tensor)):
            raise Malformed(f"{what} divides by a denormal number: what overflows cannot be verified")


def _are_finite(tensors: Iterable[TensorProto]) -> bool:
    """Whether stored tensors can be read and hold finite numbers alone; small ones are looked at together."""
    small: dict[np.dtype[Any], list[NDArray[Any]]] = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for tensor in tensors:
            if min(tensor.dims, default=0) < 0:
                return False
            if is_referred(tensor):
                blocks = blocks_of(tensor) if is_float(element_dtype(tensor.data_type)) else ()
                if not all(math.isfinite(float(np.sum(block))) for block in blocks):
                    return False
                continue
            try:
                values = array_of(tensor)
            except (ValueError, TypeError, KeyError, OverflowError, MemoryError):
                return False
            if not is_float(values.dtype):
                continue
            if values.size <= _SMALL:
                small.setdefault(values.dtype, []).append(values.reshape(-1))
            elif not math.isfinite(float(np.sum(values))):
                return False
        return all(math.isfinite(float(np.sum(np.concatenate(some)))) for some in small.values())


def _check_tensor(tensor: TensorProto, what: str, *, factor: bool = False) -> None:
    if any(size < 0 for size in tensor.dims):
        raise Malformed(f"{what} has a negative size: {list(tensor.dims)}")
    try:
        values = array_of(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise Malformed(f"{what} with dims {list(tensor.dims)} cannot be read: {reason}") from None
    _check_numbers(values, what, factor=factor)


def _holds_denormals(values: NDArray[Any]) -> bool:
    if values.dtype.kind != "f":
        return False
    sizes = np.abs(values)
    return bool(((sizes > 0) & (sizes < np.finfo(values.dtype).tiny)).any())


def _check_numbers(values: NDArray[Any], what: str, *, factor: bool) -> None:
    if not values.size or not is_float(values.dtype):
        return
    with np.errstate(invalid="ignore", over="ignore"):
        if math.isfinite(float(np.sum(values))):
            return
        low, high = float(np.min(values)), float(np.max(values))
    if math.isnan(low) or math.isnan(high):
        raise Malformed(f"{what} holds NaN: what is computed from it cannot be verified")
    if factor and (math.isinf(low) or math.isinf(high)):
        raise Malformed(f"{what} holds an infinite factor: what is computed from it cannot be verified")
