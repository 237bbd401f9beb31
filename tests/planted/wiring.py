"""Mistakes with operators and their connections."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from tests.planted.kinds import Kind, Plant, Theme
from tests.planted.order import network_scope
from tests.planted.result import PLANTED, Places, Result


def shortcut(r: Result) -> NodeProto:
    """The first sum of two maps."""
    return r.find(
        "Add", having=lambda node: all(r.value(name) is None for name in node.input) and node.input[0] != node.input[1]
    )


def shortcut_lost(r: Result) -> Places:
    """A sum of one map."""
    node = shortcut(r)
    return r.becomes(node, "Identity", node.input[:1])


def shortcut_twice(r: Result) -> Places:
    """A map added to itself."""
    node = shortcut(r)
    node.input[1] = node.input[0]
    return r.around(node)


def shortcut_subtracted(r: Result) -> Places:
    """A difference for a sum."""
    node = shortcut(r)
    node.op_type = "Sub"
    return r.around(node)


def operands_turned(r: Result) -> Places:
    """The operands of a difference exchanged."""
    node = r.find("Sub", having=lambda node: all(r.value(name) is None for name in node.input))
    node.input[:] = list(node.input)[::-1]
    return r.around(node)


def from_elsewhere(r: Result) -> Places:
    """A shortcut that comes from another map of the same shape, further in front."""
    node = shortcut(r)
    shape = r.facts.result[node.input[1]].shape
    for other in r.graph.node:
        name = other.output[0]
        if name not in node.input and name in r.facts.source and r.facts.result[name].shape == shape:
            places = r.around(node)
            node.input[1] = name
            r.sort()
            return places
    raise LookupError("there is no other map of this shape")


def binarisation(r: Result) -> NodeProto:
    """The first Sign of a map."""
    return r.find("Sign", having=lambda node: r.value(node.input[0]) is None)


def binarisation_lost(r: Result) -> Places:
    """A layer that reads the map itself, not its signs."""
    sign = binarisation(r)
    layer = r.reader(sign.output[0], "Conv", "MatMul", "Gemm")
    layer.input[0] = sign.input[0]
    return r.around(layer, sign)


def up_at_zero(r: Result) -> Places:
    """Sign, +1 at 0."""
    sign = binarisation(r)
    places, mask, name = r.around(sign), f"{sign.name} mask", sign.input[0]
    zero, one, minus = (r.store(np.float32(value)) for value in (0, 1, -1))
    r.graph.node.append(helper.make_node("GreaterOrEqual", [name, zero], [mask], name=mask))
    return places | r.becomes(sign, "Where", [mask, one, minus])


def down_at_zero(r: Result) -> Places:
    """Sign, -1 at 0."""
    sign = binarisation(r)
    places, mask, name = r.around(sign), f"{sign.name} mask", sign.input[0]
    zero, one, minus = (r.store(np.float32(value)) for value in (0, 1, -1))
    r.graph.node.append(helper.make_node("Greater", [name, zero], [mask], name=mask))
    return places | r.becomes(sign, "Where", [mask, one, minus])


def zero_at_zero(r: Result) -> Places:
    """Sign in the place of the binarisation that is +1 at 0."""
    where = r.find("Where")
    mask = r.maker(where.input[0])
    return r.becomes(where, "Sign", mask.input[:1]) | r.around(mask)


def softened(r: Result) -> Places:
    """Tanh for Sign."""
    return r.becomes(binarisation(r), "Tanh")


def activation_lost(r: Result) -> Places:
    """An activation that is not there."""
    node = r.find("PRelu", "Tanh", "Relu", "LeakyRelu", "Clip", "Sigmoid")
    return r.becomes(node, "Identity", node.input[:1])


def activation_twice(r: Result) -> Places:
    """An activation that is there twice."""
    node = r.find("PRelu", "Tanh", "LeakyRelu", "Sigmoid", "Elu")
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.input[0], copy.output[0] = f"{node.name}{PLANTED}", f"{node.output[0]}{PLANTED}", node.output[0]
    places = r.around(node)
    node.output[0] = copy.input[0]
    r.graph.node.append(copy)
    r.sort()
    return places


def other_activation(r: Result) -> Places:
    """HardSigmoid for Sigmoid, Elu for PRelu and the like."""
    node = r.find("Sigmoid", "PRelu", "LeakyRelu")
    return r.becomes(node, "HardSigmoid" if node.op_type == "Sigmoid" else "Elu", node.input[:1])


def mean_of(r: Result) -> NodeProto:
    """The first mean of copies that is no graph output."""
    outputs = {value.name for value in r.graph.output}
    return r.find("Mean", having=lambda node: node.output[0] not in outputs)


def output_mean(r: Result) -> NodeProto:
    """The mean of copies that is a graph output."""
    outputs = {value.name for value in r.graph.output}
    return r.find("Mean", having=lambda node: node.output[0] in outputs)


def first_copy_for(find: str) -> Plant:
    """The first copy in the place of the mean."""

    def plant(r: Result) -> Places:
        node = output_mean(r) if find == "output" else mean_of(r)
        node.input[:] = [node.input[0]] * len(node.input)
        return r.around(node)

    return plant


def sum_for(find: str) -> Plant:
    """The sum of the copies in the place of the mean."""

    def plant(r: Result) -> Places:
        node = output_mean(r) if find == "output" else mean_of(r)
        node.op_type = "Sum"
        return r.around(node)

    return plant


def maximum_for_mean(r: Result) -> Places:
    """The largest copy in the place of the mean."""
    node = mean_of(r)
    node.op_type = "Max"
    return r.around(node)


def mean_behind_sign(r: Result) -> Places:
    """A binary boundary that reads the mean of signs, not the sign of the mean."""
    for mean in r.nodes("Mean"):
        sign = next((node for node in r.readers(mean.output[0]) if node.op_type == "Sign"), None)
        if sign is None:
            continue
        places = r.around(sign, mean)
        parts = []
        for name in mean.input:
            parts.append(f"{name} sign")
            r.graph.node.append(helper.make_node("Sign", [name], [parts[-1]], name=parts[-1]))
        inner = f"{sign.output[0]}{PLANTED}"
        r.graph.node.append(helper.make_node("Mean", parts, [inner], name=inner))
        r.becomes(sign, "Identity", [inner])
        return places
    raise LookupError("no Sign reads a mean")


def works_on_wide_map(r: Result) -> Places:
    """A boundary that works on the wide map."""
    node = r.find("LRN", "Softmax")
    mean = r.maker(node.input[0])
    split, tile = r.maker(mean.input[0]), r.reader(node.output[0], "Tile")
    places = r.around(node, tile)
    node.input[0], node.output[0] = split.input[0], tile.output[0]
    r.graph.node.remove(tile)
    r.sort()
    return places


def gate_of_first_copy(r: Result) -> Places:
    """A product whose second operand is the first copy's for all."""
    node = r.find("Mul", having=lambda node: all(r.wide(name) == 1 for name in node.input))
    count = r.copies(node.input[1])
    index = np.tile(np.arange(count), r.beta)
    return r.insert(node.input[1], "Gather", r.store(index), only=node, axis=1)


def left_narrow(r: Result) -> Places:
    """An operator that works on the first copy; its output is tiled."""
    node, place, axis = r.per_channel("PRelu", "Mul", "BatchNormalization")
    return _run_narrow(r, node, axis)


def pooling_narrow(r: Result) -> Places:
    """A pooling that works on the first copy; its output is tiled."""
    node = r.find("GlobalAveragePool", "AveragePool", "MaxPool", having=lambda node: r.wide(node.output[0]) == 1)
    return _run_narrow(r, node, 0)


def _run_narrow(r: Result, node: NodeProto, axis: int) -> Places:
    name = node.input[0]
    found = r.facts.result[name].shape
    along = 1 if len(found) > 1 else 0
    count = found[along] // r.beta
    places = r.around(node)
    r.insert(name, "Gather", r.store(np.arange(count)), only=node, axis=along)
    out = node.output[0]
    for position in range(1, len(node.input)):
        value = r.value(node.input[position])
        if value is not None and value.size > r.beta:
            r.change(node, position, lambda value: np.split(value, r.beta, int(np.argmax(value.shape)))[0])
    made = f"{out}{PLANTED}"
    r.graph.node.append(helper.make_node("Concat", [made] * r.beta, [out], name=made, axis=along))
    node.output[0] = made
    r.sort()
    return places


def layers_boundary(*, every: bool) -> Plant:
    """RepConvs that are boundaries: W on the mean of the copies in front of the Sign, its output tiled."""

    def plant(r: Result) -> Places:
        source = {node.name: node for node in r.canonical.graph.node}
        weights = {tensor.name: tensor for tensor in r.canonical.graph.initializer}
        places: Places = frozenset()
        for layer in r.layers("repconv"):
            old, tile = source[layer.name], r.tile(layer)
            sign = next((node for node in r.nodes("Sign") if node.output[0] == layer.input[0]), None)
            axis = r.wide(layer.input[0])
            if sign is None or axis != 1 or layer.op_type != "Conv":
                continue
            count = r.copies(sign.input[0])
            parts = [f"{layer.name} part{copy}" for copy in range(r.beta)]
            for copy, name in enumerate(parts):
                index = r.store(np.arange(count) + copy * count)
                r.graph.node.append(helper.make_node("Gather", [sign.input[0], index], [name], name=name, axis=1))
            mean, signs = f"{sign.input[0]}/mean", f"{layer.name} signs"
            if all(mean not in node.output for node in r.graph.node):
                r.graph.node.append(helper.make_node("Mean", parts, [mean], name=mean))
            r.graph.node.append(helper.make_node("Sign", [mean], [signs], name=signs))
            places |= r.around(layer, tile, more=[mean])
            layer.input[0] = signs
            if old.input[1] in weights:
                layer.input[1] = _restored(r, weights[old.input[1]].name)
            else:
                maker = next(node for node in r.canonical.graph.node if old.input[1] in node.output)
                copy = r.graph.node.add()
                copy.CopyFrom(maker)
                copy.name, copy.output[0] = f"{layer.name} weight", f"{layer.name} weight"
                copy.input[0] = _restored(r, maker.input[0])
                layer.input[1] = copy.output[0]
            r.change(tile, 1, lambda times: np.where(times > 1, r.beta, times))
            if not every:
                break
        if not places:
            raise LookupError("no RepConv reads a Sign")
        r.sort()
        return places

    return plant


def _restored(r: Result, name: str) -> str:
    tensor = next((each for each in r.canonical.graph.initializer if each.name == name), None)
    if tensor is None:
        raise LookupError(f"{name} is not stored")
    return r.store(numpy_helper.to_array(tensor))


def branch_changed(r: Result) -> Places:
    """Another operator inside of a branch of an If."""
    node = r.find("If")
    for attribute in node.attribute:
        for inner in attribute.g.node:
            if inner.op_type == "Mul":
                inner.op_type = "Add"
                return r.around(node)
    raise LookupError("no branch multiplies")


def branches_exchanged(r: Result) -> Places:
    """An If with its branches exchanged."""
    node = r.find("If")
    names = [attribute.name for attribute in node.attribute]
    for attribute, name in zip(node.attribute, reversed(names), strict=True):
        attribute.name = name
    return r.around(node)


def function_changed(r: Result) -> Places:
    """Another operator inside of a local function."""
    if not r.model.functions:
        raise LookupError("there is no function")
    inner = r.model.functions[0].node[0]
    inner.op_type = "Mul"
    name = r.model.functions[0].name
    return r.around(r.find(name), more=[name])


def captured_elsewhere(r: Result) -> Places:
    """An If whose branches read what stands in front of the function that they should read."""
    node = r.find("If")
    for attribute in sorted(node.attribute, key=lambda attribute: attribute.name, reverse=True):
        for inner in attribute.g.node:
            for place, name in enumerate(inner.input):
                maker = next((each for each in r.graph.node if name in each.output), None)
                if maker is not None:
                    inner.input[place] = maker.input[0]
                    return r.around(node)
    raise LookupError("no branch reads a map")


def through_half(r: Result) -> Places:
    """A map that passes through half precision in front of a binarisation."""
    name = binarisation(r).input[0]
    half = f"{name} half"
    places = r.insert(name, "Cast", to=1)
    back = r.maker(name)
    r.graph.node.append(helper.make_node("Cast", [back.input[0]], [half], name=half, to=10))
    back.input[0] = half
    r.sort()
    return places | frozenset({name})


THEME = Theme(
    "Operators and connections",
    (
        Kind("shortcut lost", shortcut_lost),
        Kind("shortcut taken twice", shortcut_twice),
        Kind("shortcut subtracted", shortcut_subtracted),
        Kind("shortcut from another map", from_elsewhere),
        Kind("operands of a difference exchanged", operands_turned),
        Kind("binarisation lost", binarisation_lost),
        Kind("sign(0) changed to +1", up_at_zero),
        Kind("sign(0) changed to -1", down_at_zero),
        Kind("+1 at 0 changed to sign(0)", zero_at_zero),
        Kind("Tanh for Sign", softened),
        Kind("activation lost", activation_lost),
        Kind("activation applied twice", activation_twice),
        Kind("another activation", other_activation),
        Kind("a map through half precision", through_half),
        Kind("a boundary reads the first copy", first_copy_for("boundary"), needs=network_scope),
        Kind("a boundary reads the sum", sum_for("boundary"), needs=network_scope),
        Kind("a boundary reads the largest copy", maximum_for_mean, needs=network_scope),
        Kind("mean of signs for sign of the mean", mean_behind_sign, needs=network_scope),
        Kind("a boundary works on the wide map", works_on_wide_map, needs=network_scope),
        Kind("a wide output is its first copy", first_copy_for("output"), needs=network_scope),
        Kind("a wide output is a sum", sum_for("output"), needs=network_scope),
        Kind("a gate of the first copy", gate_of_first_copy, needs=network_scope),
        Kind("a per-channel operator left narrow", left_narrow, needs=network_scope),
        Kind("a subgraph left narrow: pooling", pooling_narrow, needs=network_scope),
        Kind("one RepConv a boundary", layers_boundary(every=False), needs=network_scope),
        Kind("every layer a boundary", layers_boundary(every=True), needs=network_scope),
        Kind("an operator in a branch of If changed", branch_changed),
        Kind("branches of If exchanged", branches_exchanged),
        Kind("a branch of If reads another tensor", captured_elsewhere),
        Kind("a local function's body changed", function_changed),
    ),
)
