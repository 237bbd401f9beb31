"""Mistakes that are planted in a lowered network are seen when it is compared with what it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from everything import everything
from lowered_networks import channels_last, first, lowered, stored, straight, tiny
from onnx import ModelProto, helper, numpy_helper

from reptran_compiler.verification import check_lowered


def changed(model: ModelProto, name: str, place: int, value: float) -> None:
    """Change one number of an initializer."""
    tensor = stored(model, name)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[place] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def off_by_one(model: ModelProto, op_type: str, position: int) -> None:
    """Change one number that the first operator of a type reads."""
    name = first(model, op_type).input[position]
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 0, values[0] + 1)


def turned(model: ModelProto) -> None:
    """One weight of an integer layer has another sign."""
    name = first(model, "ConvInteger").input[1]
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 5, 2 - values[5])


def turned_in_product(model: ModelProto) -> None:
    """One weight of a product has another sign."""
    name = first(model, "MatMulInteger").input[1]
    changed(model, name, 5, -numpy_helper.to_array(stored(model, name)).reshape(-1)[5])


def _own(model: ModelProto, op_type: str, position: int, value: int) -> None:
    """Let the first operator of a type read a number of its own."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.uint8), "its own"))
    first(model, op_type).input[position] = "its own"


def other_zero(model: ModelProto) -> None:
    """The product takes another number off the codes."""
    _own(model, "MatMulInteger", 2, 0)


def other_codes(model: ModelProto) -> None:
    """Signs become other codes."""
    _own(model, "QuantizeLinear", 2, 2)


def moved(model: ModelProto, what: str) -> None:
    """One row or column of the windows is another."""
    tensor = next(each for each in model.graph.initializer if each.name.startswith(what))
    values = numpy_helper.to_array(tensor).reshape(-1)
    changed(model, tensor.name, values.size // 2, values[values.size // 2] - 1)


def other_filling(model: ModelProto) -> None:
    """A map is padded with a sign."""
    _own(model, "Pad", 2, 2)


def shifted_threshold(model: ModelProto) -> None:
    """One channel's threshold is another."""
    clip = first(model, "Clip")
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    values = numpy_helper.to_array(stored(model, maker.input[2])).reshape(-1)
    changed(model, maker.input[2], 3, -values[3])


def threshold_behind_pooling(model: ModelProto) -> None:
    """One channel's threshold is a little lower, behind a pooling: few of the sums that it sees are in between."""
    name = "sign2/offset"
    changed(model, name, 30, 1.5 * numpy_helper.to_array(stored(model, name)).reshape(-1)[30])


def sign_behind_relu(model: ModelProto) -> None:
    """One channel's sign is turned, in front of which a Relu leaves little but zeros."""
    name = "grow.sign/scale"
    changed(model, name, 28, -numpy_helper.to_array(stored(model, name)).reshape(-1)[28])


def soft_sign(model: ModelProto) -> None:
    """A binarisation that is not steep enough to be one."""
    clip = first(model, "Clip")
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    for position in (1, 2):
        tensor = stored(model, maker.input[position])
        values = numpy_helper.to_array(tensor) * np.float32(2.0**-125)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def other_slope(model: ModelProto) -> None:
    """One channel's slope is another."""
    name = next(n for n in (node.input[1] for node in model.graph.node if node.op_type == "Conv") if "slope" in n)
    changed(model, name, 2, 0.9)


def other_offset(model: ModelProto) -> None:
    """One channel of an affine has another offset."""
    clipped = {node.input[0] for node in model.graph.node if node.op_type == "Clip"}
    affines = [node for node in model.graph.node if len(node.input) > 2 and clipped.isdisjoint(node.output)]
    name = next(node.input[2] for node in affines if node.input[2].endswith("/offset"))
    changed(model, name, 1, numpy_helper.to_array(stored(model, name)).reshape(-1)[1] + 0.01)


def other_bit(model: ModelProto) -> None:
    """One bit of a packed weight is turned."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/bits"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, 0, values[0] ^ 1)


def order_of_bits(model: ModelProto) -> None:
    """The lowest bit of a byte comes first."""
    tensor = stored(model, "bits/table")
    values = np.ascontiguousarray(numpy_helper.to_array(tensor)[:, ::-1])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def other_padding(model: ModelProto) -> None:
    """What padding adds to one filter is off by one."""
    name = next(t.name for t in model.graph.initializer if "/padding" in t.name)
    changed(model, name, 0, numpy_helper.to_array(stored(model, name)).reshape(-1)[0] + 1)


def other_filter(model: ModelProto) -> None:
    """Of a filter that is there twice, one has another weight."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/more"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    changed(model, name, values.size - 1, -values[-1])


def other_sum(model: ModelProto) -> None:
    """One weight of a layer that reads one copy is that of a copy alone."""
    name = next(t.name for t in model.graph.initializer if t.name.endswith("/summed"))
    values = numpy_helper.to_array(stored(model, name)).reshape(-1)
    place = int(np.flatnonzero(values)[0])
    changed(model, name, place, values[place] / 2)


def other_direction(model: ModelProto) -> None:
    """One channel of an affine that is binarised is turned."""
    clip = [node for node in model.graph.node if node.op_type == "Clip"][1]
    maker = next(node for node in model.graph.node if node.output[0] == clip.input[0])
    values = numpy_helper.to_array(stored(model, maker.input[1])).reshape(-1)
    changed(model, maker.input[1], 3, -values[3])


def other_axes(model: ModelProto) -> None:
    """Signs are turned on their way to the layer."""
    layer = next(node for node in model.graph.node if node.name.startswith("inner.layer"))
    turn = helper.make_node("Transpose", [layer.input[0]], ["turned"], name="turn", perm=[0, 1, 3, 2])
    place = list(model.graph.node).index(layer)
    layer.input[0] = "turned"
    model.graph.node.insert(place, turn)


MISTAKES: dict[str, tuple[str, str, Callable[[ModelProto], None]]] = {
    "the zero point of weights": ("int8 for avx2", "binary", lambda m: off_by_one(m, "ConvInteger", 3)),
    "a weight of an integer layer": ("int8 for avx2", "binary", turned),
    "the zero point of a map": ("int8", "binary", other_zero),
    "the zero point of codes": ("int8", "binary", other_codes),
    "a weight of a product": ("int8", "binary", turned_in_product),
    "the rows of windows": ("int8", "binary", lambda m: moved(m, "windows/rows")),
    "the columns of windows": ("int8", "binary", lambda m: moved(m, "windows/columns")),
    "what windows are padded with": ("int8", "binary", other_filling),
    "a bound of signs": ("float", "binary", lambda m: off_by_one(m, "Clip", 2)),
    "a threshold": ("float", "binary", shifted_threshold),
    "a threshold behind a pooling": ("int8", "binary", threshold_behind_pooling),
    "a sign behind a Relu": ("int8", "binary", sign_behind_relu),
    "a sign that is not steep": ("float", "binary", soft_sign),
    "a slope": ("float", "binary", other_slope),
    "an offset": ("float", "binary", other_offset),
    "the sum of padding": ("float", "binary", other_padding),
    "a filter": ("float", "binary", other_filter),
    "a sum of weights": ("float", "binary", other_sum),
    "the direction of a scale": ("float", "binary", other_direction),
    "the axes of signs": ("float", "binary", other_axes),
    "a bit of a weight": ("none", "packed", other_bit),
    "the order of bits": ("none", "packed", order_of_bits),
    "a bit of an integer weight": ("int8 for avx2", "packed", other_bit),
    "a bit of a product's weight": ("int8", "packed", other_bit),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_lowering_is_seen(kind: str) -> None:
    way, weights, plant = MISTAKES[kind]
    make = tiny
    if plant in (other_padding, other_filter, other_axes):
        make = channels_last
    elif plant in (other_sum, other_direction, threshold_behind_pooling):
        make = straight
    elif plant is sign_behind_relu:
        make = everything
    result, made = lowered(make(), way, weights)
    assert check_lowered(result, made).ok
    wrong = ModelProto()
    wrong.CopyFrom(made)
    plant(wrong)
    assert wrong.SerializeToString() != made.SerializeToString(), "or nothing was planted"
    report = check_lowered(result, wrong)
    assert not report.ok


def test_a_sum_of_signs_is_equal_to_the_bit() -> None:
    """A weight that is off by a step of its type is nothing to a tolerance, and is seen."""
    result, made = lowered(tiny(), "float")
    name = next(
        t.name
        for t in made.graph.initializer
        if t.name in {x.name for x in result.graph.initializer}
        and len(t.dims) == 4
        and np.isin(numpy_helper.to_array(t), (-1, 1)).all()
    )
    changed(made, name, 0, numpy_helper.to_array(stored(made, name)).reshape(-1)[0] * (1 + 2.0**-20))
    report = check_lowered(result, made)
    assert [failure for failure in report.failures if "binary sum is not exact" in failure.detail]
