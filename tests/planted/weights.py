"""Mistakes in the weights of layers."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from tests.planted.changes import blocks, columns, interleaved, rolled
from tests.planted.kinds import Kind, Plant, Theme
from tests.planted.result import Array, Change, Places, Result


def repconv(change: Change, *, latent: bool | None = None, binary: bool | None = None) -> Plant:
    """A change to the weights of the first RepConv (with a latent tensor or without; binary or real)."""

    def plant(r: Result) -> Places:
        for node in r.layers("repconv", having=lambda plan: binary is None or plan.binary == binary):
            if latent is None or latent == (r.value(node.input[1]) is None):
                return r.change(node, 1, columns(r, node, change))
        raise LookupError("no RepConv stores its weights so")

    return plant


def layer(role: str, change: Change, place: int = 1) -> Plant:
    """A change to what another layer stores."""

    def plant(r: Result) -> Places:
        node = r.layers(role)[0]
        r.stored(node, place)
        return r.change(node, place, columns(r, node, change) if place == 1 else change)

    return plant


def sign_flipped(weight: Array) -> Array:
    """One weight with the other sign."""
    place = (0, -1) + (0,) * (weight.ndim - 2)
    weight[place] *= -1
    return weight


def one_zero(weight: Array) -> Array:
    """One weight becomes 0."""
    place = (1,) + (0,) * (weight.ndim - 1)
    weight[place] = 0
    return weight


def filters_exchanged(weight: Array) -> Array:
    """The first filter in the place of the first one that differs from it, and the other way round."""
    for row in range(1, len(weight)):
        if not np.array_equal(np.sign(weight[row]), np.sign(weight[0])):
            weight[[0, row]] = weight[[row, 0]]
            return weight
    raise LookupError("all filters are one")


def filter_twice(weight: Array) -> Array:
    """The second filter is the first."""
    weight[1] = weight[0]
    return weight


def flipped_in_space(weight: Array) -> Array:
    """Kernels from last to first."""
    if weight.ndim < 3 or weight.shape[-1] == 1:
        raise LookupError("kernels are points")
    return weight[..., ::-1]


def turned_in_space(weight: Array) -> Array:
    """Height and width of kernels exchanged."""
    if weight.ndim < 4 or weight.shape[-1] == 1:
        raise LookupError("kernels are points")
    turned: Array = weight.swapaxes(-1, -2)
    return turned


def half_precision(weight: Array) -> Array:
    """Values rounded to half precision."""
    rounded = weight.astype(np.float16).astype(weight.dtype)
    if np.array_equal(rounded, weight):
        raise LookupError("no value is rounded")
    return rounded


def of_another_layer(r: Result) -> Places:
    """A RepConv with the weights of another one of the same shape."""
    found = r.layers("repconv")
    for one in found:
        for other in found:
            names = [node.input[1] for node in (one, other)]
            values = [r.value(name) for name in names]
            if names[0] == names[1] or any(value is None for value in values):
                continue
            if values[0] is not None and values[1] is not None and values[0].shape == values[1].shape:
                one.input[1] = names[1]
                return r.around(one, more=names)
    raise LookupError("no two RepConvs have weights of one shape")


def _first_columns(count: int) -> Change:
    return lambda weight: weight[:, :count]


def _beside(times: int) -> Change:
    return lambda weight: np.concatenate([weight] * times, axis=1)


def one_copy_read(r: Result) -> Places:
    """A RepConv that reads the first copy, with W's first block of columns, and loses the others."""
    for node in r.layers("repconv"):
        axis = r.wide(node.input[0])
        if node.op_type == "Conv" and r.has(node, "group") in (None, 1) and axis == 1:
            count = r.copies(node.input[0])
            places = r.insert(node.input[0], "Gather", r.store(np.arange(count)), only=node, axis=1)
            return places | r.change(node, 1, _first_columns(count))
    raise LookupError("no RepConv reads a wide map")


def made_dense(r: Result) -> Places:
    """A grouped RepConv whose groups are lost, its weights repeated for all of them."""
    for node in r.layers("repconv"):
        groups = r.has(node, "group") or 1
        if groups > 1:
            r.attribute(node, "group", 1)
            return r.change(node, 1, _beside(groups))
    raise LookupError("no RepConv has groups")


def two_halves(r: Result) -> Places:
    """A RepConv that keeps all Co filters, on the mean of its copies: the network that there was."""
    for node in r.layers("repconv"):
        axis, tile = r.wide(node.input[0]), r.tile(node)
        if node.op_type == "Conv" and r.has(node, "group") in (None, 1) and axis == 1:
            count = r.copies(node.input[0])
            indices = [r.store(np.arange(count) + copy * count) for copy in range(r.beta)]
            parts = [f"{node.name} part{copy}" for copy in range(r.beta)]
            for name, index in zip(parts, indices, strict=True):
                r.graph.node.append(helper.make_node("Gather", [node.input[0], index], [name], name=name, axis=1))
            mean = f"{node.name} mean"
            r.graph.node.append(helper.make_node("Mean", parts, [mean], name=mean))
            node.input[0] = mean
            places = r.change(node, 1, lambda weight: np.concatenate(blocks(weight, r.beta, 1)))
            return places | r.change(tile, 1, lambda times: np.where(times > 1, r.beta, times))
    raise LookupError("no RepConv reads a wide map")


def _classifier(name: str, change: Change, place: int = 1, fc: str = "widen") -> Kind:
    return Kind(name, layer("classifier", change, place), needs=lambda options: options.fc == fc)


def _beta_kind(name: str, change: str, fc: str = "widen") -> Kind:
    """A change to a classifier's weights that beta is part of."""

    def plant(r: Result) -> Places:
        made: dict[str, Change] = {
            "times": lambda weight: weight * r.beta,
            "divided": lambda weight: weight / r.beta,
            "interleaved": interleaved(r.beta, 1),
            "first": lambda weight: np.concatenate([weight[:, : weight.shape[1] // r.beta] * r.beta, _rest(weight)], 1),
            "bias": lambda bias: bias / r.beta,
        }

        def _rest(weight: Array) -> Array:
            return 0 * weight[:, weight.shape[1] // r.beta :]

        return layer("classifier", made[change], 2 if change == "bias" else 1)(r)

    return Kind(name, plant, needs=lambda options: options.fc == fc and options.scope == "network")


def _depth(change: str) -> Plant:
    def plant(r: Result) -> Places:
        node: NodeProto = r.layers("depthwise")[0]
        made: dict[str, Change] = {
            "interleaved": interleaved(r.beta),
            "neighbour": rolled(0),
            "first": lambda weight: np.concatenate(
                [blocks(weight, r.beta)[0], *[b * 0 for b in blocks(weight, r.beta)[1:]]]
            ),
        }
        return r.change(node, 1, made[change])

    return plant


THEME = Theme(
    "Weights",
    (
        Kind("one sign flipped", repconv(sign_flipped)),
        Kind("one weight becomes 0", repconv(one_zero)),
        Kind("one filter moved", repconv(filters_exchanged)),
        Kind("one filter stored twice", repconv(filter_twice)),
        Kind("kernels flipped", repconv(flipped_in_space)),
        Kind("height and width of kernels exchanged", repconv(turned_in_space)),
        Kind("weights of another layer", of_another_layer),
        Kind("weights lost: one copy is read", one_copy_read),
        Kind("groups lost", made_dense),
        Kind("a RepConv that keeps all filters, on the mean", two_halves, needs=lambda o: o.scope == "network"),
        Kind("latent values replaced by their signs", repconv(np.sign, latent=True), promise=True),
        Kind("latent values of another size", repconv(lambda w: w * np.float32(0.5), latent=True), promise=True),
        Kind("a real weight off by a thousandth", repconv(lambda w: w * np.float32(1.001), latent=False, binary=False)),
        Kind("real weights binarised", repconv(np.sign, latent=False, binary=False)),
        Kind("real weights rounded to half precision", repconv(half_precision, latent=False, binary=False)),
        Kind("filters of the stem rotated", layer("stem", rolled(0))),
        Kind("filters of the stem negated", layer("stem", np.negative)),
        Kind("depthwise filters interleaved", _depth("interleaved")),
        Kind("depthwise filters of the neighbour", _depth("neighbour")),
        Kind("depthwise filters of the first copy alone", _depth("first")),
        _beta_kind("classifier not divided by beta", "times"),
        _beta_kind("classifier divided twice", "divided"),
        _beta_kind("classifier divided though folded", "divided", fc="fold"),
        _beta_kind("classifier's columns interleaved", "interleaved"),
        _beta_kind("classifier reads one copy", "first"),
        _beta_kind("classifier's bias divided too", "bias"),
        _classifier("classifier's bias lost", np.zeros_like, 2),
        _classifier("classes rotated", rolled(0)),
    ),
)
