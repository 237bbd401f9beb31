"""Parts of a model as models of their own: operators left out, their outputs fed, or read from what they read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from reptran_compiler.model import captured
from reptran_compiler.runtime import TensorFact, element_type, random_feeds, tensor_facts

#: The batch sizes by which fixed axes are told from dynamic ones.
_BATCHES = (2, 3)


def observed(model: ModelProto, dims: Mapping[str, int]) -> dict[str, TypeProto]:
    """The types of a model's tensors as runs show them; an axis that grows with the batch is dynamic.

    Raises:
        RuntimeFailure, CannotFeed: the model does not run.
    """
    runs = [tensor_facts(model, random_feeds(model, batch=batch, dims=dims)) for batch in _BATCHES]
    return {name: _type_of([facts[name] for facts in runs]) for name in runs[0] if all(name in facts for facts in runs)}


def part_of(
    model: ModelProto, types: Mapping[str, TypeProto], kept: Collection[int], bypassed: Collection[int] = ()
) -> ModelProto | None:
    """The part of a model that some operators are.

    What they read of others becomes a graph input; what nobody reads of theirs, a graph output. Metadata goes.

    Args:
        model: the model.
        types: the types of its tensors.
        kept: places of the operators.
        bypassed: places of operators that are left out and handed through: who reads them reads, in their stead,
            the first of their inputs that has the same type.

    Returns:
        The part; None where an input's type is not known, or nothing is left.
    """
    through = _aliases(model, types, bypassed)
    nodes = [_renamed(node, through) for place, node in enumerate(model.graph.node) if place in kept]
    made = {name for node in nodes for name in node.output if name}
    stored = {tensor.name for tensor in model.graph.initializer}
    read = dict.fromkeys(name for node in nodes for name in (*node.input, *captured(node)) if name)
    fed = [name for name in read if name not in made and name not in stored]
    given = {value.name: value for value in model.graph.input}
    ends = dict.fromkeys(through.get(value.name, value.name) for value in model.graph.output)
    outputs = [name for name in ends if name in made]
    outputs += [
        name
        for node in nodes
        for name in node.output[:1]
        if name and name not in ends and not any(out in read or out in ends for out in node.output)
    ]
    if not nodes or not outputs or any(name not in types and name not in given for name in (*fed, *outputs)):
        return None
    part = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = model.graph.name or "part"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    shown = {value.name: value for value in model.graph.output}
    part.graph.input.extend(given[name] if name in given else _value(name, types) for name in fed)
    part.graph.output.extend(shown[name] if name in shown else _value(name, types) for name in outputs)
    return part


def _value(name: str, types: Mapping[str, TypeProto]) -> ValueInfoProto:
    return ValueInfoProto(name=name, type=types[name])


def _type_of(facts: Sequence[TensorFact]) -> TypeProto:
    """The type of a tensor of some shapes, at batches that differ."""
    few, more = facts
    if few.rank != more.rank:
        return helper.make_tensor_type_proto(element_type(few.dtype), None)
    axes = [
        a if a == b else "N" if (a, b) == _BATCHES else f"N*{a // _BATCHES[0]}"
        for a, b in zip(few.shape, more.shape, strict=True)
    ]
    return helper.make_tensor_type_proto(element_type(few.dtype), axes)


def _aliases(model: ModelProto, types: Mapping[str, TypeProto], bypassed: Collection[int]) -> dict[str, str]:
    """What is read in the place of the outputs of some operators."""
    through: dict[str, str] = {}
    for place, node in enumerate(model.graph.node):
        if place in bypassed:
            wanted = types.get(node.output[0])
            heir = next((name for name in node.input if wanted is not None and types.get(name) == wanted), None)
            if heir is not None:
                through[node.output[0]] = through.get(heir, heir)
    return through


def _renamed(node: NodeProto, through: Mapping[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    del made.metadata_props[:]
    made.doc_string = ""
    for place, name in enumerate(node.input):
        made.input[place] = through.get(name, name)
    return made
