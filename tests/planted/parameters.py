"""Mistakes with numbers per channel: scales, offsets, slopes, statistics; and with stored bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, helper

from reptran_compiler.pipeline import Options
from tests.planted.changes import blocks, in_copy, interleaved, rolled
from tests.planted.kinds import Kind, Plant, Theme
from tests.planted.result import Change, Places, Result

Shaped = Callable[[int, int], Change]


def kept(options: Options) -> bool:
    """Whether BatchNormalization stays."""
    return options.bn == "keep" and options.scope == "network"


def network_scope(options: Options) -> bool:
    """Whether feature maps are wide."""
    return options.scope == "network"


def parameter(op: str, change: Shaped, *, wide: bool = True, last: bool = False) -> Plant:
    """A change, given beta and the axis, to the first parameter per channel that an operator of a type reads."""

    def plant(r: Result) -> Places:
        node, place, axis = r.per_channel(op, wide=wide, last=last)
        return r.change(node, place, change(r.beta, axis))

    return plant


def any_axis(change: Change) -> Shaped:
    """A change that needs to know nothing."""
    return lambda beta, axis: change


def in_the_last_copy(change: Change) -> Shaped:
    """A change to the last copy of a parameter alone."""
    return lambda beta, axis: in_copy(beta, beta - 1, axis, change)


def statistic(place: int, change: Callable[[int], Change]) -> Plant:
    """A change, given beta, to what a wide BatchNormalization reads."""

    def plant(r: Result) -> Places:
        return r.change(_norm(r), place, change(r.beta))

    return plant


def _norm(r: Result) -> NodeProto:
    return r.find("BatchNormalization", having=lambda node: r.wide_output(node) is not None)


def exchanged(r: Result) -> Places:
    """A BatchNormalization with mean and variance in each other's place."""
    node = _norm(r)
    node.input[3], node.input[4] = node.input[4], node.input[3]
    return r.around(node, more=node.input[3:5])


def epsilon(value: float | None) -> Plant:
    """A BatchNormalization with another epsilon; None for the default."""

    def plant(r: Result) -> Places:
        node = _norm(r)
        if r.has(node, "epsilon") in (None, value):
            raise LookupError("it has this epsilon")
        return r.attribute(node, "epsilon", value)

    return plant


def offset_first(r: Result) -> Places:
    """`(x + b) * a` for `x * a + b`."""
    for add in r.nodes("Add"):
        product = next((node for node in r.nodes("Mul") if node.output[0] == add.input[0]), None)
        if product is not None and r.value(add.input[1]) is not None and r.value(product.input[1]) is not None:
            add.input[1], product.input[1] = product.input[1], add.input[1]
            add.op_type, product.op_type = "Mul", "Add"
            return r.around(add, product)
    raise LookupError("no scale stands in front of an offset")


def of_another_node(r: Result) -> Places:
    """A parameter of another operator of the same type and shape."""
    for op in ("PRelu", "Mul", "Add"):
        found: dict[tuple[int, ...], NodeProto] = {}
        for node in r.nodes(op):
            value = r.value(node.input[1])
            if value is None or value.size <= r.beta:
                continue
            other = found.setdefault(value.shape, node)
            if other.input[1] != node.input[1]:
                node.input[1] = other.input[1]
                return r.around(node, more=[other.input[1]])
    raise LookupError("no two operators have parameters of one shape")


def widened_in_place(r: Result) -> Places:
    """A number for all channels that became that number times beta, as a channel count would: shared, and changed."""
    node = r.find("Clip", having=lambda node: len(node.input) > 2 and r.value(node.input[2]) is not None)
    return r.change(node, 2, lambda bound: bound * r.beta)


def narrow_reader_widened(r: Result) -> Places:
    """A stored tensor that was widened where it stands, though a narrow operator reads it as well."""
    node, place, axis = r.per_channel("Mul", "Add", "BatchNormalization", wide=False)
    if r.wide_output(node) is not None and r.options.scope == "network" and not _of_stem(r, node):
        raise LookupError("no narrow operator reads a parameter")
    times = [r.beta if each == axis else 1 for each in range(r.stored(node, place).ndim)]
    return r.change(node, place, lambda value: np.tile(value, times))


def _of_stem(r: Result, node: NodeProto) -> bool:
    return any(name == stem.output[0] for stem in r.layers("stem") for name in node.input)


def bounds_exchanged(r: Result) -> Places:
    """A Clip whose upper bound is the lower one's opposite."""
    node = r.find("Clip", having=lambda node: len(node.input) > 2 and r.value(node.input[2]) is not None)
    low = r.stored(node, 1)
    if float(r.stored(node, 2)) == -float(low):
        return r.change(node, 1, lambda bound: bound / 2)
    return r.change(node, 2, lambda bound: -low)


def bound_lost(r: Result) -> Places:
    """A Clip without its upper bound."""
    node = r.find("Clip", having=lambda node: len(node.input) > 2 and r.value(node.input[2]) is not None)
    places = r.around(node, more=[node.input[2]])
    del node.input[2:]
    return places


def one_slope(r: Result) -> Places:
    """A PRelu with the mean of its slopes for all channels."""
    node, place, _ = r.per_channel("PRelu")
    mean = float(r.stored(node, place).mean())
    places = r.around(node)
    return places | r.becomes(node, "LeakyRelu", node.input[:1], alpha=mean)


def applied_twice(r: Result) -> Places:
    """A scale that is applied twice."""
    node, place, _ = r.per_channel("Mul")
    return r.insert(node.output[0], "Mul", node.input[place])


def divided(r: Result) -> Places:
    """Something divided by beta, as a sum that is taken for a mean."""
    node = r.layers("repconv")[0]
    return r.insert(node.output[0], "Mul", r.store(np.float32(1 / r.beta)))


def moved_in_front(r: Result) -> Places:
    """A learnable bias in front of a binarisation that is added behind it."""
    for sign in r.nodes("Sign"):
        add = next((node for node in r.nodes("Add") if node.output[0] == sign.input[0]), None)
        if add is not None and r.value(add.input[1]) is not None:
            sign.input[0] = add.input[0]
            places = r.insert(sign.output[0], "Add", add.input[1])
            return places | r.around(sign, add)
    raise LookupError("no bias stands in front of a Sign")


def double_precision(r: Result) -> Places:
    """Parameters of another type, with Casts around them."""
    node, place, _ = r.per_channel("Mul", "Add")
    places = r.around(node)
    name = node.input[1 - place]
    made = r.store(r.stored(node, place).astype(np.float16))
    half, back = f"{node.name} half", f"{node.name} back"
    r.graph.node.append(helper.make_node("Cast", [name], [half], name=half, to=10))
    node.input[place], node.input[1 - place] = made, half
    out, node.output[0] = node.output[0], back
    r.graph.node.append(helper.make_node("Cast", [back], [out], name=f"{node.name} cast", to=1))
    r.sort()
    return places


def _first(op: str) -> Shaped:
    neutral = {"Mul": 1, "Add": 0, "PRelu": 1}[op]
    return lambda beta, axis: (
        lambda value: np.concatenate(
            [blocks(value, beta, axis)[0], *[0 * each + neutral for each in blocks(value, beta, axis)[1:]]], axis
        )
    )


THEME = Theme(
    "Parameters per channel",
    (
        Kind("scales of the neighbour", parameter("Mul", lambda beta, axis: rolled(axis))),
        Kind("offsets of the neighbour", parameter("Add", lambda beta, axis: rolled(axis))),
        Kind("slopes of the neighbour", parameter("PRelu", lambda beta, axis: rolled(axis))),
        Kind("scales interleaved", parameter("Mul", lambda beta, axis: interleaved(beta, axis)), needs=network_scope),
        Kind("offsets interleaved", parameter("Add", lambda beta, axis: interleaved(beta, axis)), needs=network_scope),
        Kind("slopes interleaved", parameter("PRelu", lambda beta, axis: interleaved(beta, axis)), needs=network_scope),
        Kind(
            "slopes of the last copy from last to first", parameter("PRelu", in_the_last_copy(lambda v: v[::-1].copy()))
        ),
        Kind("scale of the first copy alone", parameter("Mul", _first("Mul")), needs=network_scope),
        Kind("bias widened with zeros", parameter("Add", _first("Add")), needs=network_scope),
        Kind("scales off by a thousandth", parameter("Mul", any_axis(lambda v: v * np.float32(1.001)))),
        Kind("a scale's sign lost", parameter("Mul", any_axis(np.abs))),
        Kind("scale applied twice", applied_twice, needs=network_scope),
        Kind("scale divided by beta", parameter("Mul", lambda beta, axis: lambda v: v / beta)),
        Kind("offset dropped", parameter("Add", any_axis(np.zeros_like))),
        Kind("offset subtracted", parameter("Add", any_axis(np.negative))),
        Kind("offset of the last affine dropped", parameter("Add", any_axis(np.zeros_like), last=True)),
        Kind("offset in front of the scale", offset_first),
        Kind("slopes lost", parameter("PRelu", any_axis(np.zeros_like))),
        Kind("one slope for all channels", one_slope),
        Kind("parameters of another operator", of_another_node),
        Kind("a bias in front of a Sign behind it", moved_in_front),
        Kind("half precision inside", double_precision),
        Kind("a RepConv's sum taken for a mean", divided),
        Kind("mean and variance swapped", exchanged, needs=kept),
        Kind("epsilon forgotten", epsilon(0.0), needs=kept),
        Kind("epsilon the default one", epsilon(None), needs=kept),
        Kind("statistics: mean lost", statistic(3, lambda beta: np.zeros_like), needs=kept),
        Kind("statistics interleaved", statistic(4, lambda beta: interleaved(beta)), needs=kept),
        Kind("variance for standard deviation", statistic(4, lambda beta: np.square), needs=kept),
        Kind("a BatchNormalization's bias dropped", statistic(2, lambda beta: np.zeros_like), needs=kept),
        Kind("a BatchNormalization's scale without its sign", statistic(1, lambda beta: np.abs), needs=kept),
        Kind("shared constant widened in place", narrow_reader_widened),
        Kind("Clip bound shared with a channel count", widened_in_place),
        Kind("Clip bounds one another's opposite", bounds_exchanged),
        Kind("Clip bound lost", bound_lost),
    ),
)
