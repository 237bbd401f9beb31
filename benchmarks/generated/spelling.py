"""Operators whose arguments are attributes in old opsets and inputs in new ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.generated.builder import Builder, Map


def reduce(b: Builder, op: str, x: str, axes: Sequence[int], keep: bool = True) -> str:
    """A reduction; its axes are an attribute or an input."""
    if b.opset >= (13 if op == "ReduceSum" else 18):
        return b.add(op, [x, b.ints(*axes)], keepdims=int(keep))
    return b.add(op, [x], axes=list(axes), keepdims=int(keep))


def split(b: Builder, x: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
    """A Split; its sizes are an attribute or an input."""
    if b.opset >= 13:
        return b.many("Split", [x, b.ints(*sizes)], len(sizes), axis=axis)
    return b.many("Split", [x], len(sizes), axis=axis, split=list(sizes))


def slices(
    b: Builder, x: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int] = ()
) -> str:
    """A Slice of some axes. Raises `Unsuitable` for steps in an opset that has none."""
    if b.opset < 10:
        b.need(all(step == 1 for step in steps))
        return b.add("Slice", [x], starts=list(starts), ends=list(ends), axes=list(axes))
    bounds = [b.ints(*starts), b.ints(*ends), b.ints(*axes)]
    stepped = any(step != 1 for step in steps) or b.chance(0.5)
    return b.add("Slice", [x, *bounds, *([b.ints(*(steps or [1] * len(axes)))] if stepped else [])])


def channels(b: Builder, x: str, start: int, end: int, step: int = 1) -> str:
    """A Slice of channels."""
    return slices(b, x, [start], [end], [1], [step])


def pad(b: Builder, x: str, pads: Sequence[int], value: float | None = None, mode: str = "") -> str:
    """A Pad; value None for the default, mode "" for the default."""
    attributes: dict[str, object] = {"mode": mode} if mode else {}
    if b.opset < 11:
        attributes |= {} if value is None else {"value": value}
        return b.add("Pad", [x], pads=list(pads), **attributes)
    fill = [] if value is None else [b.store(np.array(value, np.float32), "fill")]
    return b.add("Pad", [x, b.ints(*pads), *fill], **attributes)


def clip(b: Builder, x: str, low: float = -1.0, high: float = 1.0) -> str:
    """HardTanh."""
    if b.opset < 11:
        return b.add("Clip", [x], min=low, max=high)
    return b.add("Clip", [x, *(b.store(np.array(bound, np.float32), "bound") for bound in (low, high))])


def unsqueeze(b: Builder, x: str, axis: int) -> str:
    """A new axis."""
    return b.add("Unsqueeze", [x, b.ints(axis)]) if b.opset >= 13 else b.add("Unsqueeze", [x], axes=[axis])


def squeeze(b: Builder, x: str, axis: int) -> str:
    """An axis of size 1 less."""
    return b.add("Squeeze", [x, b.ints(axis)]) if b.opset >= 13 else b.add("Squeeze", [x], axes=[axis])


def size(b: Builder, x: str, axis: int) -> str:
    """The size of an axis as a vector, computed as TorchScript's exporter does."""
    index = b.store(np.array(axis, np.int64), "index")
    return unsqueeze(b, b.add("Gather", [b.add("Shape", [x]), index], axis=0), 0)


def shape_of(b: Builder, x: Map, *middle: int) -> str:
    """A target for Reshape or Expand: the batch of a map, some sizes, and the map's sizes in space."""
    if not b.free:
        first = [size(b, x.name, 0)] if b.batch is None else [b.ints(b.batch)]
        return b.add("Concat", [*first, b.ints(*middle, *x.space)], axis=0)
    sizes = [size(b, x.name, 2 + axis) for axis in range(b.axes)]
    return b.add("Concat", [size(b, x.name, 0), b.ints(*middle), *sizes], axis=0)
