"""Mistakes in what a file keeps and promises: names, order, versions, documentation, metadata, annotations."""

from __future__ import annotations

from onnx import NodeProto

from tests.planted.kinds import Kind, Theme
from tests.planted.result import Places, Result


def named_twice(r: Result) -> Places:
    """Two nodes of one name."""
    first, second = (node for node in list(r.graph.node)[-2:])
    second.name = first.name
    return frozenset({first.name})


def made_twice(r: Result) -> Places:
    """A stored tensor of the name of one that a node makes."""
    name = r.layers("repconv")[0].output[0]
    made = r.graph.initializer.add()
    made.CopyFrom(r.graph.initializer[0])
    made.name = name
    return frozenset({name})


def out_of_order(r: Result) -> Places:
    """A node in front of what it reads."""
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in r.graph.node]
    place = next(place for place in range(1, len(nodes)) if set(nodes[place].input) & set(nodes[place - 1].output))
    nodes[place - 1], nodes[place] = nodes[place], nodes[place - 1]
    del r.graph.node[:]
    r.graph.node.extend(nodes)
    return r.around(nodes[place - 1], nodes[place])


def read_nowhere_made(r: Result) -> Places:
    """A node that reads what nothing makes."""
    node = r.layers("repconv")[0]
    node.input[0] = "nowhere"
    return r.around(node, more=["nowhere"])


def newer_opset(r: Result) -> Places:
    """The next opset."""
    r.model.opset_import[0].version += 1
    return frozenset({"ai.onnx", ""})


def older_ir(r: Result) -> Places:
    """Another IR version."""
    r.model.ir_version -= 1
    return frozenset({"IR version"})


def domain_lost(r: Result) -> Places:
    """A domain that is no longer imported."""
    others = [entry for entry in r.model.opset_import if entry.domain]
    if not others:
        raise LookupError("there is one domain")
    r.model.opset_import.remove(others[0])
    return frozenset({others[0].domain})


def metadata_lost(r: Result) -> Places:
    """An entry of the model's metadata."""
    entry = next((each for each in r.model.metadata_props if not each.key.startswith("reptran.")), None)
    if entry is None:
        raise LookupError("the model has no metadata")
    r.model.metadata_props.remove(entry)
    return frozenset({entry.key})


def metadata_changed(r: Result) -> Places:
    """Another value of an entry of the model's metadata."""
    entry = next((each for each in r.model.metadata_props if not each.key.startswith("reptran.")), None)
    if entry is None:
        raise LookupError("the model has no metadata")
    entry.value = "someone else"
    return frozenset({entry.key})


def producer_lost(r: Result) -> Places:
    """The producer's name."""
    if not r.model.producer_name:
        raise LookupError("nobody made it")
    r.model.producer_name = ""
    return frozenset({"producer_name"})


def graph_documentation_lost(r: Result) -> Places:
    """What the graph is for."""
    if not r.graph.doc_string:
        raise LookupError("the graph is not documented")
    r.graph.doc_string = ""
    return frozenset({"doc_string"})


def input_documentation_lost(r: Result) -> Places:
    """What an input is."""
    value = next((value for value in r.graph.input if value.doc_string), None)
    if value is None:
        raise LookupError("no input is documented")
    value.doc_string = ""
    return frozenset({value.name})


def node_documentation_lost(r: Result) -> Places:
    """Why a layer is there."""
    node = next((node for node in r.layers("repconv") if node.doc_string), None)
    if node is None:
        raise LookupError("no layer is documented")
    node.doc_string = ""
    return frozenset({node.name})


def node_metadata_lost(r: Result) -> Places:
    """Where a layer comes from."""
    node = next((node for node in r.layers("repconv", "classifier") if node.metadata_props), None)
    if node is None:
        raise LookupError("no layer has metadata")
    del node.metadata_props[:]
    return frozenset({node.name})


def parameter_documentation_lost(r: Result) -> Places:
    """What a stored tensor holds."""
    tensor = next((tensor for tensor in r.graph.initializer if tensor.doc_string), None)
    if tensor is None:
        raise LookupError("no stored tensor is documented")
    tensor.doc_string = ""
    return frozenset({tensor.name})


def annotation_lost(r: Result) -> Places:
    """A quantization annotation of a tensor that is as it was."""
    if not r.graph.quantization_annotation:
        raise LookupError("nothing is annotated")
    name = r.graph.quantization_annotation[0].tensor_name
    del r.graph.quantization_annotation[0]
    return frozenset({name})


def annotation_stale(r: Result) -> Places:
    """A quantization annotation of a tensor that is not there."""
    if not r.graph.quantization_annotation:
        raise LookupError("nothing is annotated")
    r.graph.quantization_annotation[0].tensor_name = "nowhere"
    return frozenset({"nowhere"})


def annotation_without_scale(r: Result) -> Places:
    """A quantization annotation whose scale is not stored."""
    for note in r.graph.quantization_annotation:
        for entry in note.quant_parameter_tensor_names:
            tensor = next(each for each in r.graph.initializer if each.name == entry.value)
            r.graph.initializer.remove(tensor)
            return frozenset({tensor.name, note.tensor_name})
    raise LookupError("nothing is annotated")


def function_lost(r: Result) -> Places:
    """A local function that is no longer defined."""
    if not r.model.functions:
        raise LookupError("there is no function")
    name = r.model.functions[0].name
    del r.model.functions[:]
    return r.around(r.find(name), more=[name, f"acme:{name}"])


def layer_renamed(r: Result) -> Places:
    """A layer that is called otherwise."""
    node = r.layers("repconv")[0]
    name, node.name = node.name, "conv"
    return r.around(node, more=[name])


def classifier_renamed(r: Result) -> Places:
    """A classifier that is called otherwise."""
    node = r.layers("classifier")[0]
    name, node.name = node.name, "gemm"
    return r.around(node, more=[name])


def every_layer_renamed(r: Result) -> Places:
    """All layers called otherwise."""
    nodes = r.layers("stem", "repconv", "classifier", "depthwise", "boundary")
    names = [node.name for node in nodes]
    for place, node in enumerate(nodes):
        node.name = f"layer{place}"
    return r.around(*nodes, more=names)


def every_tensor_renamed(r: Result) -> Places:
    """All tensors but graph inputs and outputs called otherwise."""
    kept = {value.name for value in (*r.graph.input, *r.graph.output)}
    made = {name: f"t{place}" for place, node in enumerate(r.graph.node) for name in node.output if name not in kept}
    for node in r.graph.node:
        for names in (node.input, node.output):
            names[:] = [made.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.input[:] = [made.get(name, name) for name in inner.input]
    del r.graph.value_info[:]
    return frozenset(made) | frozenset(node.name for node in r.graph.node)


def tensor_names_exchanged(r: Result) -> Places:
    """Two tensors with each other's names."""
    names = [node.output[0] for node in r.nodes("PRelu", "BatchNormalization", "Add") if r.wide(node.output[0]) == 1][
        :2
    ]
    if len(names) < 2 or r.facts.result[names[0]].shape != r.facts.result[names[1]].shape:
        raise LookupError("there are no two tensors of one shape")
    for node in r.graph.node:
        for field in (node.input, node.output):
            field[:] = [{names[0]: names[1], names[1]: names[0]}.get(name, name) for name in field]
    return frozenset(names) | r.around(r.maker(names[0]), r.maker(names[1]))


def dead_nodes(r: Result) -> Places:
    """A layer that is there a second time, which nothing reads."""
    node = r.layers("repconv")[0]
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.output[0] = f"{node.name} again", f"{node.output[0]} again"
    r.graph.node.append(copy)
    return frozenset({node.name, copy.name, copy.output[0]})


def unread_weights(r: Result) -> Places:
    """A stored tensor that nothing reads, as large as a layer's."""
    node = r.layers("repconv")[0]
    value = r.value(node.input[1])
    if value is None:
        value = r.stored(r.maker(node.input[1]), 0)
    name = r.store(value)
    return frozenset({name})


THEME = Theme(
    "The file",
    tuple(
        Kind(name, plant, promise=plant is not read_nowhere_made)
        for name, plant in {
            "two nodes of one name": named_twice,
            "two tensors of one name": made_twice,
            "nodes out of order": out_of_order,
            "a tensor that nothing makes": read_nowhere_made,
            "a newer opset": newer_opset,
            "another IR version": older_ir,
            "a domain no longer imported": domain_lost,
            "metadata lost": metadata_lost,
            "metadata changed": metadata_changed,
            "producer lost": producer_lost,
            "documentation of the graph lost": graph_documentation_lost,
            "documentation of an input lost": input_documentation_lost,
            "documentation of a layer lost": node_documentation_lost,
            "metadata of a layer lost": node_metadata_lost,
            "documentation of a stored tensor lost": parameter_documentation_lost,
            "quantization annotation lost": annotation_lost,
            "quantization annotation of no tensor": annotation_stale,
            "quantization annotation without its scale": annotation_without_scale,
            "local function lost": function_lost,
            "a layer renamed": layer_renamed,
            "the classifier renamed": classifier_renamed,
            "every layer renamed": every_layer_renamed,
            "every tensor renamed": every_tensor_renamed,
            "two tensors with each other's names": tensor_names_exchanged,
            "a dead copy of a layer": dead_nodes,
            "stored weights that nothing reads": unread_weights,
        }.items()
    ),
)
