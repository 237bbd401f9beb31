"""Mistakes with attributes of operators, and with constants that take their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto

from tests.planted.kinds import Kind, Plant, Theme
from tests.planted.result import Change, Places, Result


def with_kernel(r: Result, *roles: str) -> NodeProto:
    """A convolution whose kernel is no point."""
    for node in r.layers(*roles):
        shape = r.facts.result[node.input[1]].shape
        if node.op_type == "Conv" and len(shape) == 4 and shape[-1] > 1:
            return node
    raise LookupError("all kernels are points")


def convolution(name: str, change: Callable[[list[int]], list[int] | None], default: list[int]) -> Plant:
    """Another value of an attribute of a RepConv; what it has otherwise is the default."""

    def plant(r: Result) -> Places:
        node = with_kernel(r, "repconv")
        value = list(r.has(node, name) or default)
        changed = change(value)
        if changed == value:
            raise LookupError("it has this value")
        return r.attribute(node, name, changed)

    return plant


def stride_lost(r: Result) -> Places:
    """A strided layer or pooling that visits every place."""
    node = r.find("Conv", "AveragePool", "MaxPool", having=lambda node: max(r.has(node, "strides") or [1]) > 1)
    return r.attribute(node, "strides", [1, 1])


def stride_for_dilation(r: Result) -> Places:
    """A dilated layer that is not."""
    for node in r.layers("repconv"):
        if max(r.has(node, "dilations") or [1]) > 1:
            r.attribute(node, "dilations", [1, 1])
            return r.attribute(node, "pads", [1, 1, 1, 1])
    raise LookupError("no RepConv is dilated")


def group_dropped(r: Result) -> Places:
    """A layer whose attribute for groups is gone."""
    node = r.find("Conv", having=lambda node: (r.has(node, "group") or 1) > 1)
    return r.attribute(node, "group", None)


def padding_shifted(r: Result) -> Places:
    """A layer that is padded on one side only, as much in all."""
    node = with_kernel(r, "repconv")
    pads = list(r.has(node, "pads") or [])
    if not any(pads):
        raise LookupError("it is not padded")
    half = len(pads) // 2
    return r.attribute(
        node, "pads", [0] * half + [low + high for low, high in zip(pads[:half], pads[half:], strict=True)]
    )


def flag(op: str, name: str, value: Any, *, of: Callable[[Result, NodeProto], bool] | None = None) -> Plant:
    """Another value of an attribute of the first operator of a type that has not this value."""

    def plant(r: Result) -> Places:
        fits = r.find(op, having=lambda node: r.has(node, name) != value and (of is None or of(r, node)))
        return r.attribute(fits, name, value)

    return plant


def without_flag(op: str, name: str) -> Plant:
    """The default in the place of an attribute."""

    def plant(r: Result) -> Places:
        return r.attribute(r.find(op, having=lambda node: r.has(node, name) is not None), name, None)

    return plant


def kind_of(op: str, other: str) -> Plant:
    """An operator in the place of another, with its attributes."""

    def plant(r: Result) -> Places:
        node = r.find(op)
        node.op_type = other
        if other == "MaxPool":
            r.attribute(node, "count_include_pad", None)
        return r.around(node)

    return plant


def number(op: str, place: int, change: Change, having: Callable[[Result, NodeProto], bool]) -> Plant:
    """Another constant in the place of what the first fitting operator of a type reads."""

    def plant(r: Result) -> Places:
        def fits(node: NodeProto) -> bool:
            return len(node.input) > place and r.value(node.input[place]) is not None and having(r, node)

        return r.change(r.find(op, having=fits), place, change)

    return plant


def on_channels(r: Result, node: NodeProto) -> bool:
    """Whether a Slice with step 1 cuts channels."""
    step = 1 if len(node.input) < 5 else int(r.stored(node, 4)[0])
    return r.stored(node, 3).tolist() == [1] and step == 1 and r.wide(node.input[0]) == 1 and r.stored(node, 1)[0] > 0


def in_space(r: Result, node: NodeProto) -> bool:
    """Whether a Slice cuts or thins out space."""
    return bool(min(r.stored(node, 3).tolist()) > 1)


def pads_space(r: Result, node: NodeProto) -> bool:
    """Whether a Pad pads the end of an image more or less than its beginning, or both alike."""
    pads = r.stored(node, 1)
    return pads.size == 8 and not pads[1] and not pads[5]


def pads_channels(r: Result, node: NodeProto) -> bool:
    """Whether a Pad adds channels, on one side more than on the other."""
    pads = r.stored(node, 1)
    return pads.size == 8 and bool(pads[1] != pads[5])


def pads_with_number(r: Result, node: NodeProto) -> bool:
    """Whether a Pad has a value that is not 0."""
    return len(node.input) > 2 and bool(r.stored(node, 2) != 0)


def pads_once(r: Result, node: NodeProto) -> bool:
    """Whether a Pad adds channels."""
    pads = r.stored(node, 1)
    return pads.size == 8 and bool(pads[1] + pads[5])


def one_pad_moved(pads: Any) -> Any:
    """One row or column on the other side."""
    moved = pads.copy()
    place = next((place for place in (2, 3) if moved[place]), None)
    if place is None:
        raise LookupError("nothing is padded")
    moved[place] -= 1
    moved[place + 4] += 1
    return moved


def one_further(bound: Any) -> Any:
    """Bounds moved by one."""
    return bound - 1


def slice_moved(having: Callable[[Result, NodeProto], bool]) -> Plant:
    """A Slice with both bounds moved by one."""

    def plant(r: Result) -> Places:
        def fits(node: NodeProto) -> bool:
            stored = all(r.value(name) is not None for name in node.input[1:])
            return stored and having(r, node) and int(r.stored(node, 1)[0]) > 0

        node = r.find("Slice", having=fits)
        return r.change(node, 1, one_further) | r.change(node, 2, one_further)

    return plant


def slice_step(r: Result) -> Places:
    """A Slice that starts at the second of the places it thins out."""
    node = r.find(
        "Slice", having=lambda n: len(n.input) > 4 and r.value(n.input[4]) is not None and max(r.stored(n, 4)) > 1
    )
    return r.change(node, 1, lambda start: start + 1)


def split_uneven(r: Result) -> Places:
    """A Split whose first two parts have each other's size."""
    node = r.find("Split", having=lambda n: len(n.input) > 1 and len(n.output) == 2 and len(set(r.stored(n, 1))) > 1)
    return r.change(node, 1, lambda sizes: sizes[::-1].copy())


def axis_of(op: str, *others: int) -> Plant:
    """An operator that works along another axis."""

    def plant(r: Result) -> Places:
        node = r.find(op, having=lambda node: r.has(node, "axis") is not None and r.value(node.input[0]) is None)
        other = next(axis for axis in others if axis != r.has(node, "axis"))
        return r.attribute(node, "axis", other)

    return plant


def axes_of_reduction(r: Result) -> Places:
    """A reduction over height instead of channels."""
    node = r.find("ReduceMean", having=lambda node: r.has(node, "axes") is not None)
    return r.attribute(node, "axes", [2])


def other_permutation(r: Result) -> Places:
    """Height and width exchanged in a Transpose."""
    node = r.find("Transpose", having=lambda node: r.has(node, "perm") in ([0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3, 4]))
    turned = {(0, 2, 3, 1): [0, 3, 2, 1], (0, 3, 1, 2): [0, 3, 2, 1], (0, 2, 1, 3, 4): [0, 2, 1, 4, 3]}
    return r.attribute(node, "perm", turned[tuple(r.has(node, "perm"))])


THEME = Theme(
    "Attributes and constants",
    (
        Kind("stride lost", stride_lost),
        Kind("dilation lost", stride_for_dilation),
        Kind("attribute of groups dropped", group_dropped),
        Kind("padding of a layer lost", convolution("pads", lambda pads: [0] * len(pads), [0] * 4)),
        Kind("padding of a layer on one side", padding_shifted),
        Kind(
            "count_include_pad changed",
            flag("AveragePool", "count_include_pad", 0, of=lambda r, n: bool(any(r.has(n, "pads") or [0]))),
        ),
        Kind(
            "pooling's padding on the other side",
            flag("AveragePool", "pads", [1, 1, 0, 0], of=lambda r, n: r.has(n, "pads") == [0, 0, 1, 1]),
        ),
        Kind("AveragePool for MaxPool", kind_of("MaxPool", "AveragePool")),
        Kind("MaxPool for AveragePool", kind_of("AveragePool", "MaxPool")),
        Kind("maximum for mean over space", kind_of("GlobalAveragePool", "GlobalMaxPool")),
        Kind("pad value 0 for another", number("Pad", 2, np.zeros_like, pads_with_number)),
        Kind("pad value negated", number("Pad", 2, np.negative, pads_with_number)),
        Kind("pad side changed in space", number("Pad", 1, one_pad_moved, pads_space)),
        Kind("pad side changed in channels", number("Pad", 1, lambda p: p[[0, 5, 2, 3, 4, 1, 6, 7]], pads_channels)),
        Kind("channels not padded", number("Pad", 1, lambda p: p * np.array([1, 0, 1, 1, 1, 0, 1, 1]), pads_once)),
        Kind("Slice of channels one further", slice_moved(on_channels)),
        Kind("Slice of space one further", slice_moved(in_space)),
        Kind("strided Slice from its second place", slice_step),
        Kind("Split with the sizes exchanged", split_uneven),
        Kind("Concat along another axis", axis_of("Concat", 2, 3)),
        Kind("reduction along another axis", axes_of_reduction),
        Kind("height and width exchanged", other_permutation),
        Kind("an activation's slope the default one", without_flag("LeakyRelu", "alpha")),
        Kind("Elu's alpha lost", without_flag("Elu", "alpha")),
        Kind("a boundary's attribute changed", flag("LRN", "size", 5)),
        Kind("Resize by another mode", flag("Resize", "mode", "linear")),
    ),
)
