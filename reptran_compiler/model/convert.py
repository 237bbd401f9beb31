"""Between a ModelProto and a Graph. What no rule touched leaves as it came, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.graph import Constant, Graph, Node, Tensor, Variable

_PLAIN = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.TENSOR,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
    AttributeProto.STRINGS,
}


def import_model(model: ModelProto) -> Graph:
    """The graph of a model. The model is only read; unnamed nodes get names."""
    proto = model.graph
    shell = ModelProto()
    shell.CopyFrom(_without_graph(model))
    tensors: dict[str, Tensor] = {}
    for stored in proto.initializer:
        tensors[stored.name] = Constant(stored.name, gs.ir.tensor.LazyValues(stored))
    inputs: list[Tensor] = []
    for value in proto.input:
        if value.name not in tensors:
            tensors[value.name] = Variable(value.name)
            inputs.append(tensors[value.name])
    names = set(tensors) | {value.name for value in proto.value_info} | {n.name for n in proto.node}
    names |= {name for node in proto.node for name in node.output}
    nodes = []
    for index, node in enumerate(proto.node):
        read = [_tensor(tensors, name) for name in node.input]
        made = [_tensor(tensors, name) for name in node.output]
        attrs = {a.name: _value(a) for a in node.attribute if a.type in _PLAIN}
        label = node.name or f"{node.op_type}#{index}"
        names.add(label)
        nodes.append(Node(node.op_type, label, attrs, read, made, domain=node.domain, source=node))
    pinned = frozenset(name for node in proto.node for name in _captured(node) if name in tensors)
    outputs = [_tensor(tensors, value.name) for value in proto.output]
    shell.graph.name, shell.graph.doc_string = proto.name, proto.doc_string
    shell.graph.metadata_props.extend(proto.metadata_props)
    shell.graph.quantization_annotation.extend(proto.quantization_annotation)
    shell.graph.input.extend(proto.input)
    shell.graph.output.extend(proto.output)
    shell.graph.value_info.extend(proto.value_info)
    shell.graph.sparse_initializer.extend(proto.sparse_initializer)
    return Graph(shell, nodes, inputs, outputs, pinned, names)


def export_model(graph: Graph, *, keep_value_info: bool = False) -> ModelProto:
    """The model of a graph.

    Args:
        keep_value_info: keep the source's value_info of tensors that still exist. Only true where no rule
            changed a shape.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    proto = model.graph
    proto.node.extend(node_proto(node) for node in graph.nodes)
    stored: dict[str, TensorProto] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, Constant):
                _store(stored, tensor)
    for tensor in graph.outputs:
        if isinstance(tensor, Constant):
            _store(stored, tensor)
    proto.initializer.extend(stored.values())
    made = {name for node in proto.node for name in node.output}
    kept = [value for value in proto.value_info if keep_value_info and value.name in made]
    del proto.value_info[:]
    proto.value_info.extend(kept)
    inputs = [v for v in proto.input if v.name in stored or any(t.name == v.name for t in graph.inputs)]
    del proto.input[:]
    proto.input.extend(inputs)
    notes = [n for n in proto.quantization_annotation if n.tensor_name in made or n.tensor_name in stored]
    del proto.quantization_annotation[:]
    proto.quantization_annotation.extend(notes)
    return model


def tensor_proto(tensor: Constant, name: str) -> TensorProto:
    """A stored tensor under a name; the file's own bytes where it was never changed."""
    values = tensor._values
    if isinstance(values, gs.ir.tensor.LazyValues):
        if values.tensor.name == name:
            found: TensorProto = values.tensor
            return found
        copy = TensorProto()
        copy.CopyFrom(values.tensor)
        copy.name = name
        return copy
    return numpy_helper.from_array(np.asarray(values, order="C"), name)


def _store(stored: dict[str, TensorProto], tensor: Constant) -> None:
    if tensor.name not in stored:
        stored[tensor.name] = tensor_proto(tensor, tensor.name)


def _without_graph(model: ModelProto) -> ModelProto:
    shell = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(shell, field.name).extend(value)
        else:
            setattr(shell, field.name, value)
    return shell


def _tensor(tensors: dict[str, Tensor], name: str) -> Tensor:
    if name == "":
        return Variable("")
    if name not in tensors:
        tensors[name] = Variable(name)
    return tensors[name]


def _value(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in (AttributeProto.FLOATS, AttributeProto.INTS) else value


def _captured(node: NodeProto) -> list[str]:
    bodies = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    bodies += [g for a in node.attribute for g in a.graphs]
    return [name for body in bodies for name in _read_by(body)]


def _read_by(body: GraphProto) -> list[str]:
    names = [name for node in body.node for name in (*node.input, *_captured(node))]
    return [*names, *(value.name for value in body.output)]


def node_proto(node: Node) -> NodeProto:
    """A node as the file holds it, with the documentation and metadata of the node that it stems from."""
    proto = NodeProto()
    source: NodeProto | None = node.source
    if source is not None:
        proto.doc_string = source.doc_string
        proto.metadata_props.extend(source.metadata_props)
    proto.op_type, proto.name = node.op, node.name
    if node.domain:
        proto.domain = node.domain
    proto.input.extend(t.name for t in node.inputs)
    proto.output.extend(t.name for t in node.outputs)
    known = {a.name: a for a in source.attribute} if source is not None and source.op_type == node.op else {}
    for name, value in node.attrs.items():
        old = known.pop(name, None)
        if old is not None and _same(_value(old), value):
            proto.attribute.append(old)
        else:
            value = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            proto.attribute.append(helper.make_attribute(name, value))
    proto.attribute.extend(a for a in known.values() if a.type not in _PLAIN)
    return proto


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, np.ndarray) or isinstance(new, np.ndarray):
        return old is new or (np.asarray(old).dtype == np.asarray(new).dtype and np.array_equal(old, new))
    return bool(old == new)


__all__ = ["export_model", "import_model", "node_proto", "tensor_proto"]
