"""Cutting a finished graph: tensors that are computed in it become tensors that it is fed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from reptran_compiler.runtime import TensorFact, element_type
from reptran_compiler.verification.protograph import NodeView, ProtoGraph, captured

COMPUTED = "@computed"


def cut_names(graph: ProtoGraph, feed: Iterable[str]) -> dict[str, str]:
    """For each tensor that is to be fed, the name under which the cut graph still computes it."""
    return {name: _free(name + COMPUTED, graph) for name in sorted(set(feed))}


def cut_model(
    graph: ProtoGraph,
    names: Mapping[str, str],
    facts: Mapping[str, TensorFact],
    *,
    stored: bool = True,
) -> ModelProto:
    """A copy of a model in which readers of some tensors read fed graph inputs of the same names.

    Args:
        graph: the model.
        names: tensors that nodes of the main graph make, and what they are called where they are computed
            (`cut_names`).
        facts: their types.
        stored: whether the copy holds the stored tensors.
    """
    source = graph.model
    model = graph.shell("cut")
    for view in graph.nodes:
        node = model.graph.node.add()
        node.CopyFrom(view.proto)
        for place, name in enumerate(view.outputs):
            if name in names:
                node.output[place] = names[name]
    if stored:
        model.graph.initializer.extend(source.graph.initializer)
    model.graph.input.extend(value for value in source.graph.input if value.name in graph.inputs)
    for name in names:
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, element_type(facts[name].dtype), None))
    for value in source.graph.output:
        output = model.graph.output.add()
        output.CopyFrom(value)
        output.name = names.get(value.name, value.name)
    return model


def cut_part(
    graph: ProtoGraph,
    names: Mapping[str, str],
    facts: Mapping[str, TensorFact],
    outputs: Sequence[str],
    weights: Container[str],
) -> ModelProto:
    """What computes some tensors of a cut model (see `cut_model`), without weights, whose values are at hand."""
    return part(cut_model(graph, names, facts, stored=False), graph.initializers, outputs, weights)


def part(
    model: ModelProto, stored: Mapping[str, TensorProto], outputs: Sequence[str], weights: Container[str]
) -> ModelProto:
    """Reduce a model, in place, to what computes some of its tensors, and put into it what that reads.

    Args:
        model: the model, without stored tensors of its source.
        stored: these.
        outputs: the tensors.
        weights: tensors that need neither be computed nor stored, as their values are at hand.
    """
    prune(model, outputs, known=weights)
    read = {name for node in model.graph.node for name in (*node.input, *captured(node)) if name not in weights}
    read.update(outputs)
    model.graph.initializer.extend(tensor for name, tensor in stored.items() if name in read)
    return model


def prune(model: ModelProto, outputs: Sequence[str], *, known: Container[str] = ()) -> ModelProto:
    """Reduce a model, in place, to what computes some of its tensors; they become its outputs.

    Args:
        model: the model.
        outputs: the tensors.
        known: tensors that need not be computed, as their values are at hand.
    """
    graph = model.graph
    wanted = set(outputs)
    kept = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            wanted.update(name for name in (*node.input, *captured(node)) if name not in known)
            kept.append(node)
    kept.reverse()
    nodes = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs))
    return model


def without_unread(model: ModelProto) -> ModelProto:
    """Reduce a model, in place, to the stored tensors and graph inputs that its nodes and outputs read."""
    graph = model.graph
    read = {name for node in graph.node for name in (*node.input, *captured(node))}
    read.update(value.name for value in graph.output)
    for values in (graph.initializer, graph.input):
        for place in reversed([place for place, value in enumerate(values) if value.name not in read]):
            del values[place]
    return model


def _free(name: str, graph: ProtoGraph) -> str:
    while name in graph.tensors:
        name += "~"
    return name


def region(graph: ProtoGraph, output: str, inputs: Iterable[str]) -> list[NodeView] | None:
    """The nodes between some tensors and one that is computed from them, in order.

    Returns:
        The nodes, those that compute constants included; None if `output` depends on graph inputs by another
        way.
    """
    stops = set(inputs)
    found: dict[int, NodeView] = {}
    pending = [output]
    while pending:
        name = pending.pop()
        if name in stops and name != output:
            continue
        if name in graph.initializers:
            continue
        maker = graph.maker.get(name)
        if maker is None:
            return None
        if maker.index not in found:
            found[maker.index] = maker
            pending.extend(maker.reads)
    return [view for view in graph.nodes if view.index in found]


def signature(graph: ProtoGraph, nodes: Iterable[NodeView], inputs: Iterable[str]) -> tuple[object, ...]:
    """A value that two regions share only if they compute the same, apart from the names in them."""
    numbers: dict[str, object] = {name: ("input", place) for place, name in enumerate(inputs)}
    rows = []
    for view in nodes:
        operands: list[object] = []
        for name in view.inputs:
            if name in graph.initializers:
                tensor = graph.initializers[name]
                value = np.asarray(graph.value(name))
                operands.append((tensor.data_type, value.shape, value.tobytes()))
            else:
                operands.append(numbers.get(name, name))
        attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in view.proto.attribute))
        rows.append((view.op, attributes, tuple(operands)))
        numbers.update({name: (len(rows), place) for place, name in enumerate(view.outputs)})
    return tuple(rows)
