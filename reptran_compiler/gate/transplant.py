"""A graph with the names of the one that it corresponds to, and with its parameters, where that is wanted."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reptran_compiler.gate.alignment import Alignment
from reptran_compiler.model.convert import INITIALIZERS_ARE_NO_INPUTS
from reptran_compiler.verification.protograph import NodeView, ProtoGraph

#: Stands in front of the names of what no graph output depends on.
_UNREAD = "unread/"


def renamed(made: Alignment) -> ModelProto:
    """The first graph's model with the names of the second one, so that layers and tensors are found by name."""
    return made.first.model if made.named else _Rebuilding(made, transplant=False).model()


def transplanted(made: Alignment) -> ModelProto:
    """The first graph's model with the names and the parameters of the second one."""
    return _Rebuilding(made, transplant=True).model()


class _Rebuilding:
    """The first graph under other names. What no output depends on stays, under names of its own."""

    def __init__(self, made: Alignment, *, transplant: bool) -> None:
        self.made, self.transplant = made, transplant
        self._stored: dict[tuple[bool, str, str], TensorProto] = {}
        self._places: dict[tuple[int, int], str] = {}
        self._names = {name: name for name in made.first.inputs} | made.tensors
        self._taken = {*made.second.inputs, *made.tensors.values()}

    def model(self) -> ModelProto:
        """The model."""
        made, graph = self.made, self.made.first.graph
        result = made.first.shell(graph.name)
        result.ir_version = made.first.model.ir_version
        result.metadata_props.extend(made.first.model.metadata_props)
        for operand in made.operands:
            theirs = self.transplant and operand.trained
            key = (theirs, operand.reference if theirs else operand.name, operand.reference)
            if key not in self._stored:
                source = made.second if theirs else made.first
                self._stored[key] = _tensor(source, key[1], self._fresh(operand.reference))
            self._places[operand.node, operand.position] = self._stored[key].name
            self._names.setdefault(operand.name, self._stored[key].name)
        for name in made.first.initializers:
            if name not in self._names:
                self._names[name] = self._fresh(_UNREAD + name)
                self._stored[False, name, ""] = _tensor(made.first, name, self._names[name])
        result.graph.initializer.extend(self._stored.values())
        result.graph.input.extend(value for value in graph.input if value.name not in made.first.initializers)
        if result.ir_version < INITIALIZERS_ARE_NO_INPUTS:
            result.graph.input.extend(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                for tensor in result.graph.initializer
            )
        result.graph.output.extend(graph.output)
        partners = {mine.index: theirs for mine, theirs in made.nodes}
        constants = {name for name in made.first.maker if name in self._names and name not in made.tensors}
        for node in made.first.nodes:
            if not any(name in constants for name in node.outputs):
                result.graph.node.append(self._node(node, partners.get(node.index)))
        return result

    def _node(self, node: NodeView, partner: NodeView | None) -> NodeProto:
        copy = NodeProto()
        copy.CopyFrom(node.proto)
        copy.name = partner.proto.name if partner is not None else _UNREAD + node.name
        for position, name in enumerate(node.inputs):
            copy.input[position] = self._places.get((node.index, position)) or self._name(name)
        for position, name in enumerate(node.outputs):
            copy.output[position] = self._name(name)
        return copy

    def _name(self, name: str) -> str:
        return name and (self._names.get(name) or _UNREAD + name)

    def _fresh(self, wish: str) -> str:
        while wish in self._taken:
            wish += "~"
        self._taken.add(wish)
        return wish


def _tensor(graph: ProtoGraph, name: str, called: str) -> TensorProto:
    """A stored tensor under another name."""
    copy = TensorProto()
    held = graph.initializers[name] if name in graph.initializers else graph.maker[name].attribute("value")
    copy.CopyFrom(held if isinstance(held, TensorProto) else numpy_helper.from_array(graph.value(name)))
    copy.name = called
    return copy
