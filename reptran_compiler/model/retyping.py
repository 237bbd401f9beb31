"""A model in another floating type: what is stored, what is fed and given, and what its operators are told to make."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from reptran_compiler.model.subgraphs import bodies

#: Attributes that name a type, by operator; of any other operator, `dtype` does.
_TYPE_ATTRIBUTES = {"Cast": "to"}
#: Operands that are float32 whatever the type of what is resized.
_SCALES = {"Resize": (1, 2), "Upsample": (1,)}


def retyped(model: ModelProto, source: int, target: int) -> ModelProto:
    """A copy of a model in which every tensor of one floating type is of another.

    Args:
        model: the model, with its data loaded; it is not changed.
        source: a type of TensorProto, such as FLOAT16.
        target: the type that takes its place. Numbers that it does not hold are rounded.

    Returns:
        The copy. It has no value_info, which would be of the old type.
    """
    made = ModelProto()
    made.CopyFrom(model)
    if source != target:
        _retype_graph(made.graph, source, target)
        for function in made.functions:
            _retype_nodes(function.node, source, target, frozenset())
            del function.value_info[:]
    return made


def holds(model: ModelProto, kind: int) -> bool:
    """Whether a graph stores, is fed, gives or casts to a type of TensorProto, subgraphs and functions aside."""
    graph = model.graph
    return (
        any(tensor.data_type == kind for tensor in graph.initializer)
        or any(value.type.tensor_type.elem_type == kind for value in (*graph.input, *graph.output))
        or any(_names(node, attribute, kind) for node in graph.node for attribute in node.attribute)
    )


def _retype_graph(graph: GraphProto, source: int, target: int) -> None:
    scales = _SCALES if source == TensorProto.FLOAT else {}
    kept = frozenset(
        node.input[place] for node in graph.node for place in scales.get(node.op_type, ()) if place < len(node.input)
    )
    for tensor in graph.initializer:
        if tensor.name not in kept and tensor.data_type == source:
            tensor.CopyFrom(_tensor(tensor, target))
    for sparse in graph.sparse_initializer:
        if sparse.values.data_type == source:
            sparse.values.CopyFrom(_tensor(sparse.values, target))
    for value in (*graph.input, *graph.output):
        _retype_value(value.type, source, target)
    _retype_nodes(graph.node, source, target, kept)
    del graph.value_info[:]


def _retype_nodes(nodes: Iterable[NodeProto], source: int, target: int, kept: frozenset[str]) -> None:
    for node in nodes:
        for attribute in list(node.attribute):
            if _names(node, attribute, source):
                attribute.i = target
            elif source == TensorProto.FLOAT and attribute.name in ("value_float", "value_floats"):
                # A Constant of these attributes is of float32.
                value = np.asarray(onnx.helper.get_attribute_value(attribute), np.float32)
                node.attribute.remove(attribute)
                node.attribute.append(
                    onnx.helper.make_attribute("value", _tensor(numpy_helper.from_array(value), target))
                )
            elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == source:
                if node.output[0] not in kept:
                    attribute.t.CopyFrom(_tensor(attribute.t, target))
        for body in bodies(node):
            _retype_graph(body, source, target)


def _names(node: NodeProto, attribute: AttributeProto, kind: int) -> bool:
    """Whether an attribute tells an operator to make a type."""
    return attribute.type == AttributeProto.INT and (
        attribute.name == _TYPE_ATTRIBUTES.get(node.op_type, "dtype") and attribute.i == kind
    )


def _retype_value(kind: TypeProto, source: int, target: int) -> None:
    inner = kind.WhichOneof("value")
    if inner == "tensor_type" and kind.tensor_type.elem_type == source:
        kind.tensor_type.elem_type = target
    elif inner in ("sequence_type", "optional_type"):
        _retype_value(getattr(kind, inner).elem_type, source, target)


def _tensor(tensor: TensorProto, kind: int) -> TensorProto:
    values = numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, tensor.name)
