"""Operators of ONNX that move elements and compute none, as functions of torch tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training.sites import Reading, Site, integers


def _reshape(site: Site) -> Reading:
    zero = not site.attribute("allowzero", 0)
    if site.static[1] is not None:
        return Reading(partial(_reshaped, shape=integers(site.static[1]), zero=zero), (0,))
    return Reading(partial(_reshaped_to, zero=zero), (0, 1))


def _reshaped(x: Tensor, shape: Sequence[int], zero: bool) -> Tensor:
    return x.reshape([x.shape[at] if size == 0 and zero else size for at, size in enumerate(shape)])


def _reshaped_to(x: Tensor, shape: Tensor, zero: bool) -> Tensor:
    return _reshaped(x, shape.tolist(), zero)


def _flatten(x: Tensor, axis: int) -> Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _flatten_from(site: Site) -> Reading:
    return Reading(partial(_flatten, axis=int(site.attribute("axis", 1))), (0,))


def _transposed(x: Tensor, order: tuple[int, ...] | None) -> Tensor:
    return x.permute(order if order is not None else tuple(reversed(range(x.dim()))))


def _transpose(site: Site) -> Reading:
    order = site.attribute("perm")
    return Reading(partial(_transposed, order=None if order is None else integers(order)), (0,))


def _joined(*tensors: Tensor, axis: int) -> Tensor:
    return torch.cat(tensors, dim=axis)


def _concat(site: Site) -> Reading:
    return Reading(partial(_joined, axis=int(site.attribute("axis"))), tuple(range(len(site.node.inputs))))


def _split(site: Site) -> Reading:
    sizes = site.value(1, "split")
    parts = None if sizes is None else integers(sizes)
    count = int(site.attribute("num_outputs", len(site.node.outputs)))
    return Reading(partial(_parts, sizes=parts, count=count, axis=int(site.attribute("axis", 0))), (0,))


def _parts(x: Tensor, sizes: tuple[int, ...] | None, count: int, axis: int) -> Sequence[Tensor]:
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = tuple(max(0, min(each, x.shape[axis] - each * place)) for place in range(count))
    return torch.split(x, list(sizes), dim=axis)


def _slice(site: Site) -> Reading:
    starts, ends = integers(site.value(1, "starts")), integers(site.value(2, "ends"))
    axes = site.value(3, "axes")
    steps = site.value(4)
    held = tuple(range(len(starts))) if axes is None else integers(axes)
    paces = (1,) * len(starts) if steps is None else integers(steps)
    return Reading(partial(_sliced, cuts=tuple(zip(held, starts, ends, paces, strict=True))), (0,))


def _sliced(x: Tensor, cuts: Sequence[tuple[int, int, int, int]]) -> Tensor:
    for axis, start, end, step in cuts:
        size = x.shape[axis]
        if step > 0:
            begin, stop, pace = slice(start, end, step).indices(size)
            x = x[(slice(None),) * (axis % x.dim()) + (slice(begin, max(begin, stop), pace),)]
        else:
            begin = min(max(start + size if start < 0 else start, 0), size - 1)
            stop = min(max(end + size if end < 0 else end, -1), size - 1)
            x = x.index_select(axis % x.dim(), torch.arange(begin, stop, step, device=x.device))
    return x


def _pad(site: Site) -> Reading:
    pads = integers(site.value(1, "pads"))
    value = site.value(2, "value", 0.0)
    axes = site.value(3)
    number = 0.0 if value is None else float(np.asarray(value).reshape(-1)[0])
    mode = str(site.attribute("mode", "constant"))
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    held = None if axes is None else integers(axes)
    return Reading(partial(_padded, pads=pads, axes=held, mode=names[mode], value=number), (0,))


def _padded(x: Tensor, pads: tuple[int, ...], axes: tuple[int, ...] | None, mode: str, value: float) -> Tensor:
    places = tuple(range(x.dim())) if axes is None else tuple(axis % x.dim() for axis in axes)
    sizes = {axis: (pads[at], pads[at + len(places)]) for at, axis in enumerate(places)}
    flat = list(itertools.chain(*(sizes.get(axis, (0, 0)) for axis in reversed(range(x.dim())))))
    if mode == "constant":
        return F.pad(x, flat, value=value)
    while len(flat) > 2 * (x.dim() - 2) and not any(flat[-2:]):
        flat = flat[:-2]
    return F.pad(x, flat, mode=mode)


def _tile(site: Site) -> Reading:
    return Reading(partial(_tiled, times=integers(site.value(1))), (0,))


def _tiled(x: Tensor, times: tuple[int, ...]) -> Tensor:
    return x.repeat(times)


def _expand(site: Site) -> Reading:
    if site.static[1] is not None:
        return Reading(partial(_expanded, shape=integers(site.static[1])), (0,))
    return Reading(_expanded_to, (0, 1))


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))  # type: ignore[no-untyped-call]


def _expanded_to(x: Tensor, shape: Tensor) -> Tensor:
    return _expanded(x, shape.tolist())


def _squeeze(site: Site) -> Reading:
    axes = site.value(1, "axes")
    return Reading(torch.squeeze if axes is None else partial(torch.squeeze, dim=integers(axes)), (0,))


def _unsqueeze(site: Site) -> Reading:
    return Reading(partial(_unsqueezed, axes=integers(site.value(1, "axes"))), (0,))


def _unsqueezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = x.unsqueeze(axis)
    return x


def _shape(x: Tensor, start: int, end: int | None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def _shape_of(site: Site) -> Reading:
    end = site.attribute("end")
    return Reading(partial(_shape, start=int(site.attribute("start", 0)), end=None if end is None else int(end)), (0,))


def _gather(site: Site) -> Reading:
    return Reading(partial(_gathered, axis=int(site.attribute("axis", 0))), (0, 1))


def _gathered(x: Tensor, places: Tensor, axis: int) -> Tensor:
    flat = places.reshape(-1).to(x.device)
    made = x.index_select(axis % x.dim(), torch.where(flat < 0, flat + x.shape[axis], flat))
    return made.reshape([*x.shape[: axis % x.dim()], *places.shape, *x.shape[axis % x.dim() + 1 :]])


def _filled(shape: Tensor, value: float | int, dtype: torch.dtype) -> Tensor:
    return torch.full(shape.tolist(), value, dtype=dtype)


def _constant_of_shape(site: Site) -> Reading:
    held = site.attribute("value")
    array = np.zeros(1, np.float32) if held is None else np.array(numpy_helper.to_array(held))
    return Reading(partial(_filled, value=array.reshape(-1)[0].item(), dtype=torch.from_numpy(array).dtype), (0,))


def _shuffled(x: Tensor, block: int) -> Tensor:
    """DepthToSpace in mode DCR, of [N, C, H, W]."""
    count, channels, height, width = x.shape
    x = x.reshape(count, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(count, channels // block**2, height * block, width * block)


def _depth_to_space(site: Site) -> Reading:
    block = int(site.attribute("blocksize"))
    if str(site.attribute("mode", "DCR")) == "CRD":
        return Reading(partial(F.pixel_shuffle, upscale_factor=block), (0,))
    return Reading(partial(_shuffled, block=block), (0,))


#: How they run, by type.
SHAPING: Mapping[str, Callable[[Site], Reading]] = MappingProxyType(
    {
        "Concat": _concat,
        "ConstantOfShape": _constant_of_shape,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "Flatten": _flatten_from,
        "Gather": _gather,
        "Pad": _pad,
        "Reshape": _reshape,
        "Shape": _shape_of,
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
