"""The walk over a model that finds what its tensors have in common whatever the sizes of the dynamic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from reptran_compiler.model.symbolic import registry, shapes
from reptran_compiler.model.symbolic.dimension import LONGEST, Dimension, axis, extent
from reptran_compiler.model.symbolic.facts import (
    LARGEST,
    Array,
    Call,
    Fact,
    Stored,
    constant_shape,
    numpy_type,
    of_array,
    of_tensor,
    unknown_elements,
)

OWN = ("", "ai.onnx")
_UNKNOWN = Fact()


@dataclass(frozen=True)
class Symbols:
    """What is known of a model's tensors. A tensor that is missing is one of which nothing is known.

    Attributes:
        shapes: the sizes of the axes.
        values: the elements of small integer and boolean tensors (booleans are 0 and 1), as object arrays of Dimension
            in the tensor's shape; elements of which nothing is known are opaque.
        dtypes: the element types, of the tensors in `values` among others.
    """

    shapes: Mapping[str, tuple[Dimension, ...]]
    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]


def symbolic(model: ModelProto, ranks: Mapping[str, int] | None = None) -> Symbols:
    """What is known of the tensors of the model's main graph, from the types of its inputs and its nodes alone.

    It holds for every run that succeeds: for all sizes of the dynamic axes, 0 and 1 included (but for a Reshape to a
    computed shape, where an empty axis would mean a copy, axes are taken to be 1 or more). Axes with one `dim_param`
    have one size, as ONNX says; an axis without a name is called `INPUT:index`, and `shapes[INPUT]` tells it.
    Initializers that are graph inputs too count as constants; no tensor is taken to have so many elements that the
    model's own signed 32- or 64-bit arithmetic of sizes overflows. Stored `value_info` is not believed.

    Operators of other domains, local functions, control flow and opsets before 7 are unknown; so is what follows from
    them, but for the tensors whose number of axes `ranks` tells by name: their sizes are symbols of their own. Takes
    time linear in the number of nodes, and never raises for a model that is not well-formed.
    """
    opsets = {item.domain: item.version for item in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    local = {item.name for item in model.functions if item.domain in OWN}
    facts = _given(model.graph)
    known = ranks or {}
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            made = list(node.output)
            if node.domain in OWN and node.op_type not in local and opset >= 7:
                for name, fact in zip(made, _outputs(node, made, opset, facts), strict=False):
                    if name:
                        facts[name] = fact
            for name in made:
                if name in known and (name not in facts or facts[name].shape is None):
                    facts[name] = Fact(shape=tuple(extent(name, place) for place in range(known[name])))
    integers = {
        name: fact.value
        for name, fact in facts.items()
        if fact.dtype is not None and fact.dtype.kind in "iub" and fact.value is not None
    }
    return Symbols(
        {name: fact.shape for name, fact in facts.items() if fact.shape is not None},
        integers,
        {name: fact.dtype for name, fact in facts.items() if fact.dtype is not None},
    )


def constant_values(symbols: Symbols) -> dict[str, Array]:
    """The integer and boolean tensors that are the same whatever the sizes, each in its own type."""
    found = {}
    for name, value in symbols.values.items():
        numbers = [item.constant for item in value.flat]
        if None not in numbers:
            found[name] = np.array(numbers, dtype=symbols.dtypes[name]).reshape(value.shape)
    return found


def _given(graph: GraphProto) -> dict[str, Fact]:
    """The facts of the graph's inputs and initializers."""
    named = {size.dim_param for item in graph.input for size in item.type.tensor_type.shape.dim}
    facts = {
        item.name: _settled(item.name, _input(item, named)) for item in graph.input if item.type.HasField("tensor_type")
    }
    for tensor in graph.initializer:
        facts[tensor.name] = _settled(tensor.name, of_tensor(tensor))
    for sparse in graph.sparse_initializer:
        facts[sparse.values.name] = Fact(shape=tuple(map(Dimension.of, sparse.dims)))
    return facts


def _input(item: ValueInfoProto, named: set[str]) -> Fact:
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        return Fact(numpy_type(tensor.elem_type))
    shape = []
    for i, size in enumerate(tensor.shape.dim):
        if size.HasField("dim_value") and size.dim_value > 0:  # some exporters write 0 or -1 for a dynamic axis
            shape.append(Dimension.of(size.dim_value))
            continue
        name = size.dim_param or f"{item.name}:{i}"
        while not size.dim_param and name in named:
            name += "'"
        shape.append(axis(name))
    return Fact(numpy_type(tensor.elem_type), tuple(shape))


def _outputs(node: NodeProto, made: Sequence[str], opset: int, facts: Mapping[str, Fact]) -> list[Fact]:
    """The facts of a node's outputs, called `made`, as far as its rules know them."""
    op = node.op_type
    call = Call(node, opset, [facts.get(name, _UNKNOWN) if name else None for name in node.input])
    try:
        if op == "Constant":
            return [_settled(made[0], _constant(call))]
        if op == "SplitToSequence":
            parts = shapes.sequence_parts(call) or ()
            return [Fact(items=tuple(Fact(call.operand(0).dtype, part) for part in parts))]
        if op == "SequenceAt":
            sequence, place = call.operand(0).items, call.operand(1).constants
            return [_settled(made[0], sequence[place[0]])] if place else []
        shape_rule = registry.SHAPES.get(op)
        if shape_rule is None:
            return _inferred(call)
        call.forms = shape_rule(call)
        call.target = _dtype(op, call)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return []  # too large to follow, or not well-formed
    values: list[Array | None] = [None] * len(call.forms)
    rule = registry.VALUES.get(op)
    if rule is not None and call.target is not None:
        try:
            values = [*rule(call), *values][: len(values)]
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass
    dtypes = [call.target] * len(values) if op == "Split" else [call.target] + [None] * (len(values) - 1)
    return [
        _settled(name, Fact(dtype, shape, value))
        for name, dtype, shape, value in zip(made, dtypes, call.forms, values, strict=False)
    ]


def _constant(call: Call) -> Fact:
    attributes = call.attributes
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in attributes:
            return of_array(np.array(attributes[name], dtype=dtype))
    if "value_floats" in attributes:
        return of_array(np.array(attributes["value_floats"], dtype=np.float32))
    if "value_string" in attributes:
        return Fact(shape=())
    if "value_strings" in attributes:
        return Fact(shape=(Dimension.of(len(attributes["value_strings"])),))
    value = attributes.get("value")
    return of_tensor(value) if isinstance(value, TensorProto) else Fact()


def _dtype(op: str, call: Call) -> np.dtype[Any] | None:
    """The type of the first output of a node of some type."""
    if op in registry.BOOLEAN:
        return np.dtype(np.bool_)
    if op in registry.INDICES:
        return np.dtype(np.int64)
    if op == "Cast":
        return numpy_type(call.integer("to", 0))
    if op == "ConstantOfShape":
        value = call.attributes.get("value")
        return numpy_type(value.data_type) if isinstance(value, TensorProto) else np.dtype(np.float32)
    return None if op in registry.UNTYPED else call.operand(1 if op in ("CastLike", "Where") else 0).dtype


def _settled(name: str, fact: Fact) -> Fact:
    """The fact as it is kept: small, in the type's range, with opaque elements for unknown integers."""
    if isinstance(fact, Stored):
        return fact
    if fact.shape is not None and max([len(size.text) for size in fact.shape], default=0) >= LONGEST // 4:
        short = (size if len(size.text) < LONGEST // 4 else extent(name, i) for i, size in enumerate(fact.shape))
        fact = Fact(fact.dtype, tuple(short), fact.value)
    form = constant_shape(fact.shape)
    if form is None or fact.dtype is None or math.prod(form) > LARGEST:
        return fact if fact.value is None and not fact.items else Fact(fact.dtype, fact.shape)
    if fact.dtype.kind == "f":
        items = [] if fact.value is None else list(fact.value.flat)
        known = fact.value is not None and all(item is not None and np.isfinite(item) for item in items)
        return fact if known else Fact(fact.dtype, fact.shape)
    value = unknown_elements(name, form)
    if fact.value is not None and fact.value.shape == form:
        known_items = (_in_range(item, fact.dtype) for item in fact.value.flat)
        items = [item if item is not None else other for item, other in zip(known_items, value.flat, strict=True)]
        value.reshape(-1)[:] = items
    return Fact(fact.dtype, fact.shape, value)


def _in_range(item: Dimension | None, dtype: np.dtype[Any]) -> Dimension | None:
    """The element, if the type can hold it: what it cannot wraps around. A size is taken to fit signed types of 32
    and 64 bits."""
    if item is None or len(item.text) > LONGEST // 4:
        return None
    least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if item.constant is None and dtype in (np.int32, np.int64):
        return item
    low, high = item.bounds()
    return item if least <= low and high <= most else None


def _inferred(call: Call) -> list[Fact]:
    """Shapes by ONNX's own inference, for an operator without a rule whose operands' shapes are all constant."""
    node = call.node
    if any(item.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for item in node.attribute):
        return []
    inputs, stored = [], []
    for name, fact in dict(zip(node.input, call.inputs, strict=True)).items():
        if fact is None:
            continue
        form = constant_shape(fact.shape)
        if form is None or fact.dtype is None:
            return []
        inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(fact.dtype), form))
        numbers = fact.constants
        if numbers is not None:
            stored.append(helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(fact.dtype), form, numbers))
    wanted = [ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, wanted, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", call.opset)])
    try:
        told = {item.name: item.type.tensor_type for item in onnx.shape_inference.infer_shapes(model).graph.output}
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return []
    facts = []
    for name in node.output:
        tensor = told.get(name)
        sizes = tensor.shape.dim if tensor is not None and tensor.HasField("shape") else None
        if tensor is None or sizes is None or not all(size.HasField("dim_value") for size in sizes):
            facts.append(Fact())
            continue
        found = tuple(Dimension.of(size.dim_value) for size in sizes)
        facts.append(_settled(name, Fact(numpy_type(tensor.elem_type), found)))
    return facts
