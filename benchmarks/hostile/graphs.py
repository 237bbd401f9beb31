"""Mutations of a graph: its nodes, edges, attributes, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from benchmarks.hostile.drawing import FLOATS, NAMES, Change, Nothing, Random, name, node, number, one

_OPERATORS = (
    "Conv Gemm MatMul Sign Relu Add Mul Concat Split Slice Pad Reshape Transpose Flatten Resize Tile Expand "
    "Gather Where Identity Cast BatchNormalization PRelu Clip MaxPool AveragePool GlobalAveragePool ReduceMean "
    "Shape ConstantOfShape Range Loop If Scan Dropout RandomNormal SequenceConstruct Softmax LRN TopK NonZero "
    "Size Unsqueeze Squeeze OneHot DepthToSpace SpaceToDepth Einsum QuantizeLinear StringNormalizer Optional "
    "NoSuchOperator "
).split()
#: Constants that make a tensor of many elements, by operator.
_BLOW_UPS = ("Expand", "ConstantOfShape", "Tile", "Reshape", "Range", "Pad", "Resize", "OneHot", "EyeLike")


def _drop_node(model: ModelProto, random: Random) -> None:
    model.graph.node.remove(node(model, random))


def _repeat_node(model: ModelProto, random: Random) -> None:
    model.graph.node.add().CopyFrom(node(model, random))


def _reorder_nodes(model: ModelProto, random: Random) -> None:
    order = [int(place) for place in random.permutation(len(model.graph.node))]
    nodes = [model.graph.node[place] for place in order]
    copies = [type(each).FromString(each.SerializeToString()) for each in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _swap_operator(model: ModelProto, random: Random) -> None:
    node(model, random).op_type = one(random, _OPERATORS)


def _rename_node(model: ModelProto, random: Random) -> None:
    node(model, random).name = one(random, [*NAMES, node(model, random).name])


def _change_domain(model: ModelProto, random: Random) -> None:
    node(model, random).domain = one(random, ["ai.onnx", "acme", "com.microsoft", "ai.onnx.ml", "\n"])


def _rewire(model: ModelProto, random: Random) -> None:
    changed = node(model, random)
    if not changed.input:
        raise Nothing
    changed.input[int(random.integers(len(changed.input)))] = name(model, random)


def _close_a_circle(model: ModelProto, random: Random) -> None:
    place = int(random.integers(len(model.graph.node) or 1))
    first, later = one(random, model.graph.node[: place + 1]), one(random, model.graph.node[place:])
    if not first.input or not later.output:
        raise Nothing
    first.input[0] = later.output[0]


def _change_edges(model: ModelProto, random: Random) -> None:
    changed = node(model, random)
    edges = changed.input if random.random() < 0.6 else changed.output
    if edges and random.random() < 0.5:
        del edges[int(random.integers(len(edges)))]
    else:
        edges.append(name(model, random))


def _rename_tensor(model: ModelProto, random: Random) -> None:
    """A tensor's name, everywhere: in the place of one that another has, too."""
    old, new = name(model, random), one(random, [*NAMES, name(model, random)])
    for each in model.graph.node:
        for edges in (each.input, each.output):
            edges[:] = [new if edge == old else edge for edge in edges]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        if value.name == old:
            value.name = new


def _rename_output(model: ModelProto, random: Random) -> None:
    changed = node(model, random)
    if not changed.output:
        raise Nothing
    changed.output[int(random.integers(len(changed.output)))] = name(model, random)


def _drop_attribute(model: ModelProto, random: Random) -> None:
    attributes = _with_attributes(model, random).attribute
    attributes.remove(one(random, attributes))


def _repeat_attribute(model: ModelProto, random: Random) -> None:
    attributes = _with_attributes(model, random).attribute
    attributes.add().CopyFrom(one(random, attributes))


def _hurt_attribute(model: ModelProto, random: Random) -> None:
    """Numbers of an attribute that hurt; too many or too few of them."""
    changed = one(random, _with_attributes(model, random).attribute)
    if changed.ints and random.random() < 0.5:
        changed.ints[int(random.integers(len(changed.ints)))] = number(random)
    elif changed.ints:
        changed.ints[:] = [number(random) for _ in range(int(random.integers(0, 9)))]
    elif changed.type == AttributeProto.FLOAT:
        changed.f = one(random, FLOATS)
    elif changed.type == AttributeProto.STRING:
        changed.s = one(random, [b"", b"\xff\xfe", b"linear", b"SAME_UPPER", b"x\n\x1b[2J"])
    else:
        changed.i = number(random)


def _retype_attribute(model: ModelProto, random: Random) -> None:
    changed = one(random, _with_attributes(model, random).attribute)
    draw = random.random()
    if draw < 0.5:
        changed.type = one(random, list(AttributeProto.AttributeType.values()))
    elif draw < 0.75:
        changed.name = one(random, ["", "axis", "axes", "pads", "group", "value", "to", *NAMES])
    else:
        made = helper.make_attribute(changed.name, one(random, [1, 1.5, "text", [1, 2], [0.5], ["a"]]))
        changed.CopyFrom(made)


def _refer_attribute(model: ModelProto, random: Random) -> None:
    one(random, _with_attributes(model, random).attribute).ref_attr_name = "elsewhere"


def _blow_up(model: ModelProto, random: Random) -> None:
    """A node that makes a tensor of absurdly many elements, between a node and its readers."""
    operator = one(random, _BLOW_UPS)
    rank = int(random.integers(1, 5))
    sizes = [one(random, [1, 2, 1 << 16, 1 << 31, 1 << 33, 1 << 62]) for _ in range(rank)]
    model.graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [rank], sizes))
    read = name(model, random)
    inputs = {
        "ConstantOfShape": ["huge"],
        "Range": ["nil", "much", "step"],
        "Resize": [read, "", "", "huge"],
        "OneHot": [read, "much", "huge"],
    }
    for scalar, value in (("nil", 0), ("much", 1 << 62), ("step", 1)):
        model.graph.initializer.append(helper.make_tensor(scalar, TensorProto.INT64, [], [value]))
    made = helper.make_node(operator, inputs.get(operator, [read, "huge"]), ["blown up"], name="blow up")
    model.graph.node.insert(int(random.integers(len(model.graph.node) + 1)), made)
    if random.random() < 0.7:
        model.graph.output.add(name="blown up")


def _change_interface(model: ModelProto, random: Random) -> None:
    values = model.graph.input if random.random() < 0.5 else model.graph.output
    draw = random.random()
    if draw < 0.2:
        del values[:]
    elif draw < 0.4:
        values.remove(one(random, values))
    elif draw < 0.6:
        values.add().CopyFrom(one(random, values))
    elif draw < 0.8:
        one(random, values).name = name(model, random)
    else:
        values.append(helper.make_tensor_value_info(name(model, random), TensorProto.FLOAT, ["N", 3, None]))


def _with_attributes(model: ModelProto, random: Random) -> NodeProto:
    found: NodeProto = one(random, [each for each in model.graph.node if each.attribute])
    return found


#: Every mutation of a graph, by name.
GRAPHS: Mapping[str, Change] = {
    "a node dropped": _drop_node,
    "a node repeated": _repeat_node,
    "nodes reordered": _reorder_nodes,
    "another operator": _swap_operator,
    "a node renamed": _rename_node,
    "another domain": _change_domain,
    "an edge rewired": _rewire,
    "a circle": _close_a_circle,
    "inputs or outputs of a node": _change_edges,
    "a tensor renamed": _rename_tensor,
    "an output renamed": _rename_output,
    "an attribute dropped": _drop_attribute,
    "an attribute repeated": _repeat_attribute,
    "an attribute's numbers": _hurt_attribute,
    "an attribute's type": _retype_attribute,
    "an attribute by reference": _refer_attribute,
    "a tensor of 2^62 elements": _blow_up,
    "graph inputs or outputs": _change_interface,
}
