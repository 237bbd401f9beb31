"""Between a ModelProto and a Graph. What no rule touched leaves as it came, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from reptran_compiler.model.elements import Constant, Node, Tensor, Unread, Variable
from reptran_compiler.model.graph import Graph
from reptran_compiler.model.protos import PLAIN, copy_fields, element_dtype, plain_attributes, plain_value
from reptran_compiler.model.referred import Scratch, tensor_of
from reptran_compiler.model.subgraphs import bodies, captured

#: From this IR version on, an initializer need not be a graph input.
INITIALIZERS_ARE_NO_INPUTS = 4
#: What a node says that is true of its operator alone.
_OF_THE_OPERATOR = ("overload", "device_configurations")


def import_model(model: ModelProto, scratch: Scratch | None = None) -> Graph:
    """The graph of a model. The model is only read.

    Nodes without a name, and nodes that have the name of a node in front of them, get one of their own.

    Args:
        model: the model.
        scratch: where large constants that rules make are stored; None to hold them in memory.
    """
    proto = model.graph
    shell = ModelProto()
    copy_fields(model, shell, without=("graph",))
    tensors: dict[str, Tensor] = {}
    for stored in proto.initializer:
        tensors[stored.name] = Constant(stored.name, _values(stored), stored)
    inputs: list[Tensor] = []
    for value in proto.input:
        if value.name not in tensors:
            tensors[value.name] = Variable(value.name)
            inputs.append(tensors[value.name])
    names = _taken(proto)
    labels: set[str] = set()
    nodes = []
    for index, node in enumerate(proto.node):
        read = [tensors.get(name) or _tensor(tensors, name) for name in node.input]
        made = [tensors.get(name) or _tensor(tensors, name) for name in node.output]
        label = node.name
        if not label or label in labels:
            label = _free(label or f"{node.op_type}#{index}", names)
        labels.add(label)
        nodes.append(Node(node.op_type, label, None, read, made, node.domain, node, captured(node)))
    pinned = frozenset(name for node in nodes for name in node.captured if name in tensors)
    outputs = [_tensor(tensors, value.name) for value in proto.output]
    copy_fields(proto, shell.graph, without=("node", "initializer"))
    held = pinned | _annotations(proto)
    shell.graph.initializer.extend(tensor for tensor in proto.initializer if tensor.name in held)
    return Graph(shell, nodes, inputs, outputs, pinned, names, scratch)


def export_model(graph: Graph, *, keep_value_info: bool = False) -> ModelProto:
    """The model of a graph.

    A graph input that an initializer backs stays while that initializer is the source's own; where a rule
    replaced it, the input goes, too (below IR version 4, where every initializer is an input, it follows).
    Constants that only subgraphs or quantization annotations refer to stay.

    Args:
        keep_value_info: keep the source's value_info of tensors that still exist. Only true where no rule
            changed a shape.

    Raises:
        ValueError: two constants of different values have one name.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    proto = model.graph
    constants = _constants(graph)
    for node in graph.nodes:
        _write(node, proto.node.add())
    made = {tensor.name for node in graph.nodes for tensor in node.outputs}
    known = made | constants.keys() | {tensor.name for tensor in graph.inputs}
    _replace(
        proto.quantization_annotation, [note for note in proto.quantization_annotation if note.tensor_name in known]
    )
    inner = (written for node, written in zip(graph.nodes, proto.node, strict=True) if node.captured)
    held = {name for written in inner for name in captured(written)} | _annotations(proto)
    own = {tensor.name: tensor for tensor in proto.initializer if tensor.name in held}
    stored = dict(own)
    for name, constant in constants.items():
        stored[name] = tensor_proto(constant, name)
        if stored[name] is constant.source:
            own[name] = stored[name]
    _replace(proto.initializer, list(stored.values()))
    _replace(proto.value_info, [value for value in proto.value_info if keep_value_info and value.name in made])
    _replace(proto.input, _inputs(model, graph, stored, own))
    return model


def digest_of(model: ModelProto) -> bytes:
    """A digest of the operators and stored tensors of a model, of whatever size."""
    digest = hashlib.sha256()
    for part in (*model.graph.node, *model.graph.initializer):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.digest()


def tensor_proto(tensor: Constant, name: str) -> TensorProto:
    """A constant as a file holds it, under a name; the source's own bytes where it was never changed."""
    source = tensor.source
    if source is None:
        return tensor_of(tensor.values, name)
    if source.name == name:
        return source
    copy = TensorProto()
    copy.CopyFrom(source)
    copy.name = name
    return copy


def _constants(graph: Graph) -> dict[str, Constant]:
    """The constants that nodes read or that are graph outputs, by name, in the order of their first use.

    A constant that a subgraph reads under the same name keeps its values there: changed ones get another name.
    """
    held = graph.pinned | _annotations(graph.model.graph)
    found: dict[str, Constant] = {}
    for tensor in [*(tensor for node in graph.nodes for tensor in node.inputs), *graph.outputs]:
        if not isinstance(tensor, Constant):
            continue
        if found.get(tensor.name) is tensor:
            continue
        if tensor.name in held and tensor.source is None:
            tensor.name = graph.fresh(tensor.name)
        if tensor.name in found and not _same(found[tensor.name].values, tensor.values):
            raise ValueError(f"two constants are called {tensor.name!r}")
        found.setdefault(tensor.name, tensor)
    return found


def _values(stored: TensorProto) -> Any:
    """What a constant holds: read when it is asked for, if it is of a type that numpy has itself."""
    known = element_dtype(stored.data_type).isbuiltin == 1
    return Unread(stored) if known else numpy_helper.to_array(stored)


def _inputs(
    model: ModelProto, graph: Graph, stored: Mapping[str, TensorProto], own: Mapping[str, TensorProto]
) -> list[ValueInfoProto]:
    """The graph inputs: those that are fed, and those with a default that is still the source's."""
    fed = {tensor.name for tensor in graph.inputs}
    kept = [value for value in model.graph.input if value.name in fed or value.name in own]
    if model.ir_version >= INITIALIZERS_ARE_NO_INPUTS:
        return kept
    listed = {value.name for value in kept}
    others = [tensor for name, tensor in stored.items() if name not in listed]
    return kept + [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in others]


def _taken(graph: GraphProto) -> set[str]:
    """Every name of a tensor or node in a graph and its subgraphs."""
    values = (graph.input, graph.output, graph.value_info, graph.initializer)
    names = {value.name for some in values for value in some}
    names.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        names.add(node.name)
        names.update(node.output)
        for body in bodies(node):
            names |= _taken(body)
    return names


def _free(hint: str, names: set[str]) -> str:
    """A name that is not among `names`, which it joins: the hint, or the hint with a number."""
    name, number = hint, 1
    while name in names:
        number += 1
        name = f"{hint}.{number}"
    names.add(name)
    return name


def _annotations(graph: GraphProto) -> set[str]:
    """The tensors that quantization annotations refer to: scales and zero points."""
    return {entry.value for note in graph.quantization_annotation for entry in note.quant_parameter_tensor_names}


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Let a repeated field hold these values."""
    del field[:]
    field.extend(values)


def _tensor(tensors: dict[str, Tensor], name: str) -> Tensor:
    if name == "":
        return Variable("")
    if name not in tensors:
        tensors[name] = Variable(name)
    return tensors[name]


def node_proto(node: Node) -> NodeProto:
    """A node as a file holds it, with the documentation and metadata of the node that it stems from."""
    proto = NodeProto()
    _write(node, proto)
    return proto


def _write(node: Node, proto: NodeProto) -> None:
    """Let an empty message be `node_proto(node)`."""
    source = node.source
    read, made = [tensor.name for tensor in node.inputs], [tensor.name for tensor in node.outputs]
    if source is not None and _as_in_file(node, source):
        proto.CopyFrom(source)
        if proto.name != node.name:
            proto.name = node.name
        if proto.input != read:
            _replace(proto.input, read)
        if proto.output != made:
            _replace(proto.output, made)
        return
    if source is not None:
        same = (source.op_type, source.domain) == (node.op, node.domain or "")
        copy_fields(source, proto, ("input", "output", "attribute", *(() if same else _OF_THE_OPERATOR)))
    proto.op_type, proto.name = node.op, node.name
    if proto.domain != (node.domain or ""):
        proto.domain = node.domain or ""
    proto.input.extend(read)
    proto.output.extend(made)
    known = {a.name: a for a in source.attribute} if source is not None and source.op_type == node.op else {}
    for name, value in node.attrs.items():
        old = known.pop(name, None)
        if old is not None and _same(plain_value(old), value):
            proto.attribute.append(old)
        else:
            value = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            empty = isinstance(value, (list, tuple)) and not value
            kind = _attribute_type(node, name) if empty else None
            proto.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    proto.attribute.extend(a for a in known.values() if a.type not in PLAIN)


def _attribute_type(node: Node, name: str) -> int:
    """The type of an attribute, which an empty list does not tell: that of the operator's definition, or integers."""
    try:
        known = onnx.defs.get_schema(node.op, domain=node.domain or "").attributes
    except onnx.defs.SchemaError:
        known = {}
    kind = str(known[name].type).rpartition(".")[2] if name in known else "INTS"
    return int(AttributeProto.AttributeType.Value(kind))


def _as_in_file(node: Node, source: NodeProto) -> bool:
    """Whether a node differs from the file's in nothing but its name and what it reads and makes."""
    if (source.op_type, source.domain) != (node.op, node.domain or ""):
        return False
    if node.as_read:
        return True
    known = plain_attributes(source)
    alike = len(known) == len(source.attribute) and list(known) == list(node.attrs)
    return alike and all(_same(old, node.attrs[name]) for name, old in known.items())


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, np.ndarray) or isinstance(new, np.ndarray):
        return old is new or (np.asarray(old).dtype == np.asarray(new).dtype and np.array_equal(old, new))
    return bool(old == new)


__all__ = ["digest_of", "export_model", "import_model", "node_proto", "tensor_proto"]
