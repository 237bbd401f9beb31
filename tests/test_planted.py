"""Mistakes planted in what the compiler made, each of which the judge must see; harmless changes, which it must not.

`test_judge.py` plants in results that were made by hand; here the compiler's own are edited, node by node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from planted_mistakes import Change, Result, interleaved, rolled
from planted_networks import everything
from tiny_networks import joined, plain

from reptran_compiler.pipeline import Options, Transformation, transform
from reptran_compiler.verification import SpecOptions, check_law, check_well_formed

BETA = 2
NETWORKS = {"equal copies": plain, "copies that differ": joined, "everything": everything}
Array = NDArray[Any]
Mistake = Callable[[Result], None]


@cache
def compiled(network: str, **options: str) -> Transformation:
    """A correct compilation."""
    return transform(NETWORKS[network](), Options(BETA, **options))


def failures(network: str, change: Mistake, **options: str) -> list[str]:
    """What the judge says once a result was changed."""
    made = compiled(network, **options)
    result = ModelProto.FromString(made.result.SerializeToString())
    change(Result(result, BETA))
    found = check_well_formed(result, NETWORKS[network]()).failures
    law = check_law(made.canonical, result, SpecOptions(BETA, fc="fold" if options.get("fc") == "fold" else "widen"))
    return [str(failure) for failure in (*found, *law.failures)]


# What mistakes are made of.


def parameters(op: str, change: Callable[[int], Change]) -> Mistake:
    """A change to the first parameter per channel that an operator of a type reads."""

    def plant(result: Result) -> None:
        node, place, axis = result.per_channel(op)
        result.change(node, place, change(axis))

    return plant


def statistics(place: int, change: Change) -> Mistake:
    """A change to an input of the first wide BatchNormalization."""
    return lambda result: result.change(result.node("BatchNormalization", number=1), place, change)


def weights(change: Change, layer: str = "") -> Mistake:
    """A change to the stored weights of a layer, the first RepConv unless it is named."""
    return lambda result: result.change(result.named(layer) if layer else result.repconv(), 1, change)


def classifier(change: Change, place: int = 1) -> Mistake:
    """A change to the classifier's weights or bias."""
    return lambda result: result.change(result.node("Gemm"), place, change)


def constant(node: str, place: int, change: Change) -> Mistake:
    """A change to a constant that a node reads."""
    return lambda result: result.change(result.named(node), place, change)


def attribute(op: str, number: int, name: str, value: Any) -> Mistake:
    """Another value of an attribute."""
    return lambda result: result.attribute(result.node(op, number=number), name, value)


def becomes(node: str, op: str, **attributes: int) -> Mistake:
    """An operator in the place of another, with these attributes and none of the other's."""

    def plant(result: Result) -> None:
        found = result.named(node)
        found.op_type = op
        del found.attribute[:]
        for name, value in attributes.items():
            result.attribute(found, name, value)

    return plant


def reordered(node: str, channels: int, order: Change) -> Mistake:
    """The channels behind a node in another order."""
    return lambda result: result.reorder(result.named(node), channels, order)


def means(op: str, tensor: str, first: bool = False) -> Mistake:
    """Another operator in the place of the mean that makes a tensor, or the mean of the first copy alone."""

    def plant(result: Result) -> None:
        node = result.maker(tensor)
        assert node is not None
        node.op_type = op
        if first:
            node.input[:] = [node.input[0]] * len(node.input)

    return plant


def swap_filters(weight: Array) -> Array:
    """The first filter in the place of the first one that differs from it, and the other way round."""
    other = next(row for row in range(len(weight)) if not np.array_equal(np.sign(weight[row]), np.sign(weight[0])))
    weight[[0, other]] = weight[[other, 0]]
    return weight


def one_zero(weight: Array) -> Array:
    """One weight becomes 0."""
    weight[(1,) * (weight.ndim - 2)] = 0
    return weight


def one_copy(weight: Array) -> Array:
    """Columns that take all from the first copy, as much as from the mean."""
    half = weight.shape[1] // BETA
    return np.concatenate([weight[:, :half] * BETA, 0 * weight[:, half:]], axis=1)


# Mistakes in the file.


def rename_input(result: Result) -> None:
    result.graph.input[0].name = "picture"
    for node in result.graph.node:
        node.input[:] = ["picture" if name == "input" else name for name in node.input]


def freeze_batch(result: Result) -> None:
    result.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def drop_output(result: Result) -> None:
    del result.graph.output[-1]


def state_narrow_shape(result: Result) -> None:
    name = result.node("PRelu").output[0]
    result.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 12, 8, 8]))


def name_twice(result: Result) -> None:
    nodes = result.graph.node
    nodes[-1].name = nodes[-2].name


def exchange_outputs(result: Result) -> None:
    first, second = (TensorValue.FromString(value.SerializeToString()) for value in result.graph.output)
    del result.graph.output[:]
    result.graph.output.extend([second, first])


TensorValue = type(helper.make_tensor_value_info("any", TensorProto.FLOAT, []))

# Mistakes with channels.


def gathered(node: str, data: str, index: Array) -> Mistake:
    """A node that picks these channels of a map."""

    def plant(result: Result) -> None:
        becomes(node, "Gather", axis=1)(result)
        result.named(node).input[:] = [data, result.store(index.astype(np.int64))]

    return plant


def slice_further(result: Result) -> None:
    for place in (1, 2):
        constant("upper", place, lambda bound: bound - 1)(result)


def split_copies(result: Result) -> None:
    cut = result.named("cut")
    for name, index in zip(cut.output, (np.r_[0:16, 24:40], np.r_[16:24, 40:48]), strict=True):
        picked = helper.make_node("Gather", [cut.input[0], result.store(index)], [name], name=f"cut {name}", axis=1)
        result.graph.node.append(picked)
    result.graph.node.remove(cut)
    result.sort()


def work_on_the_wide_map(result: Result) -> None:
    lrn, tile = result.named("lrn"), result.tile_of("lrn")
    lrn.input[0], lrn.output[0] = "gated", tile.output[0]
    result.graph.node.remove(tile)


ANYWHERE: dict[str, tuple[Mistake, dict[str, str]]] = {
    "offset of the neighbour": (parameters("Add", rolled), {}),
    "offset lost": (parameters("Add", lambda _: np.zeros_like), {}),
    "offset subtracted": (parameters("Add", lambda _: np.negative), {}),
    "scales interleaved": (parameters("Mul", lambda axis: interleaved(BETA, axis)), {}),
    "scales off by a thousandth": (parameters("Mul", lambda _: lambda value: value * 1.001), {}),
    "slopes interleaved": (parameters("PRelu", lambda axis: interleaved(BETA, axis)), {}),
    "slopes lost": (parameters("PRelu", lambda _: np.zeros_like), {}),
    "a filter moved": (weights(swap_filters), {}),
    "a filter moved where +-1 is stored": (weights(swap_filters), {"weights": "binary"}),
    "columns rotated": (weights(rolled(1)), {}),
    "kernels flipped": (weights(lambda weight: weight[..., ::-1]), {}),
    "a weight is 0": (weights(one_zero), {}),
    "padding shifted": (attribute("Conv", 1, "pads", [0, 0, 2, 2]), {}),
    "padding lost": (attribute("Conv", 1, "pads", [0, 0, 0, 0]), {}),
    "repeated channels rotated": (lambda r: r.reorder(r.tile_of(r.repconv().name), 12 * BETA, rolled(0)), {}),
    "scales of the neighbour, BN kept": (statistics(1, rolled(0)), {"bn": "keep"}),
    "offsets interleaved, BN kept": (statistics(2, interleaved(BETA)), {"bn": "keep"}),
    "means interleaved": (statistics(3, interleaved(BETA)), {"bn": "keep"}),
    "means lost": (statistics(3, np.zeros_like), {"bn": "keep"}),
    "variances interleaved": (statistics(4, interleaved(BETA)), {"bn": "keep"}),
    "epsilon twice as large": (attribute("BatchNormalization", 1, "epsilon", 2e-3), {"bn": "keep"}),
    "classifier's columns interleaved": (classifier(interleaved(BETA, 1)), {}),
    "classifier reads one copy": (classifier(one_copy), {}),
    "classifier's classes rotated": (classifier(rolled(0)), {}),
    "classifier's bias divided too": (classifier(lambda bias: bias / BETA, 2), {}),
    "classifier divided, though folded": (classifier(lambda weight: weight / BETA), {"fc": "fold"}),
    "pooled by maximum": (lambda r: becomes(r.node("GlobalAveragePool").name, "GlobalMaxPool")(r), {}),
    "input renamed": (rename_input, {}),
    "batch frozen": (freeze_batch, {}),
    "an output dropped": (drop_output, {}),
    "a shape stated as it was": (state_narrow_shape, {}),
    "two nodes of one name": (name_twice, {}),
}

EVERYTHING: dict[str, tuple[Mistake, dict[str, str]]] = {
    "latent values lost": (weights(np.sign, "first"), {}),
    "latent values scaled": (weights(lambda weight: weight * 0.5, "first"), {}),
    "row blocks taken across the groups": (weights(lambda w: np.concatenate([w[::2], w[1::2]]), "grouped"), {}),
    "depthwise filters interleaved": (weights(interleaved(BETA), "dw"), {}),
    "a real weight off by a thousandth": (weights(lambda weight: weight * 1.001, "expand"), {}),
    "a learnable bias interleaved": (constant("moved", 1, interleaved(BETA, 1)), {}),
    "padded with 0 for +1": (constant("padded.in", 2, np.zeros_like), {}),
    "padded with -1 for +1": (constant("padded.in", 2, np.negative), {}),
    "channels padded on the other side": (constant("short", 1, lambda pads: pads[[0, 5, 2, 3, 4, 1, 6, 7]]), {}),
    "channels padded in each copy": (reordered("short", 48, lambda _: np.r_[0:4, 8:20, 32:40, 4:8, 20:32, 40:48]), {}),
    "Concat in another order": (lambda r: r.named("improved").input.reverse(), {}),
    "Concat copy by copy": (reordered("grown", 72, lambda _: np.r_[0:24, 48:60, 24:48, 60:72]), {}),
    "Slice one channel further": (slice_further, {}),
    "Slice of each copy alone": (gathered("upper", "kept", np.r_[8:16, 24:32]), {}),
    "Split of each copy alone": (split_copies, {}),
    "shuffle in beta times the groups": (constant("shuffle.in", 1, lambda _: np.array([0, 6, 8, 4, 4])), {}),
    "every copy shuffled alone": (
        reordered("shuffle.out", 48, lambda _: np.r_[np.arange(24).reshape(3, 8).T.ravel(), np.arange(24, 48)]),
        {},
    ),
    "a gate of the first copy": (reordered("gate", 48, lambda _: np.r_[0:24, 0:24]), {}),
    "a gate bent otherwise": (becomes("gate", "HardSigmoid"), {}),
    "an activation lost": (becomes("bent", "Identity"), {}),
    "pooled by average": (lambda r: setattr(r.named("pooled"), "op_type", "AveragePool"), {}),
    "boundary reads the first copy": (means("Mean", "gated/mean", first=True), {}),
    "boundary reads a sum": (means("Sum", "gated/mean"), {}),
    "boundary's copies interleaved": (lambda r: r.reorder(r.tile_of("lrn"), 48, interleaved(BETA)), {}),
    "boundary works on the wide map": (work_on_the_wide_map, {}),
    "a wide output is its first copy": (means("Mean", "inner", first=True), {}),
    "a wide output is a sum": (means("Sum", "inner"), {}),
    "outputs in another order": (exchange_outputs, {}),
    "folded from the first copy": (means("Mean", "flat/mean", first=True), {"fc": "fold"}),
    "folded to a sum": (means("Sum", "flat/mean"), {"fc": "fold"}),
    "a Reshape freezes the batch": (constant("flat", 1, lambda _: np.array([2, -1])), {}),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("mistake", ANYWHERE)
def test_a_mistake_is_seen_in_any_network(mistake: str, network: str) -> None:
    change, options = ANYWHERE[mistake]
    assert failures(network, change, **options)


@pytest.mark.parametrize("mistake", EVERYTHING)
def test_a_mistake_that_needs_its_construct_is_seen(mistake: str) -> None:
    change, options = EVERYTHING[mistake]
    assert failures("everything", change, **options)


# Changes that are none.


def pass_through(result: Result) -> None:
    for name in [node.name for node in result.nodes("Conv", "Mul", "Tile")]:
        result.behind(result.named(name), "Identity")


def tile_by_concat(result: Result) -> None:
    for tile in list(result.nodes("Tile")):
        repeats = result.value(tile.input[1])
        assert repeats is not None
        times = int(repeats.max())
        tile.op_type, tile.input[:] = "Concat", [tile.input[0]] * times
        result.attribute(tile, "axis", int(repeats.argmax()))


def commute(result: Result) -> None:
    for node in result.nodes("Add", "Mul"):
        node.input.reverse()


def store_in_nodes(result: Result) -> None:
    for tensor in list(result.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], name=f"stored {tensor.name}", value=tensor)
        result.graph.node.append(node)
        result.graph.initializer.remove(tensor)
    result.sort()


def rename_new_tensors(result: Result) -> None:
    known = {name for network in NETWORKS.values() for node in network().graph.node for name in node.output}
    made = {name for node in result.graph.node for name in node.output}
    other = {name: f"new {name}" for name in made if name not in known and not name.endswith(("/mean", "/wide"))}
    for node in result.graph.node:
        for names in (node.input, node.output):
            names[:] = [other.get(name, name) for name in names]


HARMLESS: dict[str, Mistake] = {
    "nothing": lambda result: None,
    "Identity behind nodes": pass_through,
    "Concat for Tile": tile_by_concat,
    "operands exchanged": commute,
    "constants in nodes": store_in_nodes,
    "new tensors by other names": rename_new_tensors,
}


@pytest.mark.parametrize("bn", ["fold", "keep"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_is_accepted(change: str, network: str, bn: str) -> None:
    assert failures(network, HARMLESS[change], bn=bn) == []
