"""ONNX operators without parameters, as functions of torch tensors.

A feature map has the layout of the file, [N, C, ...] for convolutions and pooling. What a file stores of an operator
(shapes, axes, pads, bounds) is taken when the operator is read; only what depends on the inputs is computed in a run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training.padding import pooled_sizes, sides
from reptran_compiler.verification.protograph import NodeView

Run = Callable[..., Any]


class Unsupported(Exception):
    """An operator, or a form of one, that cannot be trained through."""


@dataclass(frozen=True)
class Site:
    """An operator in a graph.

    Attributes:
        node: the operator.
        static: what its inputs hold, by position; None where that depends on the graph's inputs or on parameters.
        opset: the version of ONNX' own operators.
    """

    node: NodeView
    static: tuple[NDArray[Any] | None, ...]
    opset: int

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.node.attribute(name, default)

    def value(self, position: int, attribute: str = "", default: Any = None) -> Any:
        """What an input holds, as an array, or an attribute that older opsets have in its place, or the default.

        Raises:
            Unsupported: the input is there and computed.
        """
        if self.node.input(position):
            held = self.static[position]
            if held is None:
                raise Unsupported(f"input {self.node.input(position)!r} is computed")
            return held
        return self.attribute(attribute, default) if attribute else default


@dataclass(frozen=True)
class Reading:
    """How an operator runs: a function, and the positions of the inputs that it is given."""

    run: Run
    positions: tuple[int, ...]


def torch_dtype(kind: int) -> torch.dtype:
    """The torch dtype of an ONNX data type."""
    return torch.from_numpy(np.zeros((), helper.tensor_dtype_to_np_dtype(kind))).dtype


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in np.asarray(values).reshape(-1))


def _first(run: Run) -> Callable[[Site], Reading]:
    return lambda site: Reading(run, (0,))


def _all(run: Run) -> Callable[[Site], Reading]:
    return lambda site: Reading(run, tuple(range(len(site.node.inputs))))


def _fold(run: Run, *tensors: Tensor) -> Tensor:
    return reduce(run, tensors)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.dtype.is_floating_point else torch.div(x, y, rounding_mode="trunc")


def _average(*tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def _clip(site: Site) -> Reading:
    bounds = [site.value(1, "min"), site.value(2, "max")]
    low, high = (None if each is None else float(np.asarray(each).reshape(-1)[0]) for each in bounds)
    if low is None and high is None:
        return Reading(_same, (0,))
    return Reading(partial(torch.clamp, min=low, max=high), (0,))


def _same(x: Tensor) -> Tensor:
    return x


def _cast(site: Site) -> Reading:
    return Reading(partial(torch.Tensor.to, dtype=torch_dtype(int(site.attribute("to")))), (0,))


def _softmax(site: Site, run: Run) -> Reading:
    if site.opset >= 13:
        return Reading(partial(run, dim=int(site.attribute("axis", -1))), (0,))
    return Reading(partial(_flat_softmax, run=run, axis=int(site.attribute("axis", 1))), (0,))


def _flat_softmax(x: Tensor, run: Run, axis: int) -> Tensor:
    """Before opset 13, over all axes from one on."""
    made: Tensor = run(x.flatten(axis % x.dim()), dim=-1).reshape(x.shape)
    return made


def _pool(site: Site, average: bool) -> Reading:
    kernel = _integers(site.attribute("kernel_shape"))
    rank = len(kernel)
    if len([name for name in site.node.outputs if name]) > 1:
        raise Unsupported("its second output is read")
    run = partial(
        _pooled,
        average=average,
        kernel=kernel,
        strides=_integers(site.attribute("strides", [1] * rank)),
        pads=_integers(site.attribute("pads", [0] * 2 * rank)),
        dilations=_integers(site.attribute("dilations", [1] * rank)),
        auto=str(site.attribute("auto_pad", "NOTSET")),
        ceil=bool(site.attribute("ceil_mode", 0)),
        count_pads=bool(site.attribute("count_include_pad", 0)),
    )
    return Reading(run, (0,))


def _pooled(
    x: Tensor,
    average: bool,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    auto: str,
    ceil: bool,
    count_pads: bool,
) -> Tensor:
    """MaxPool and AveragePool of [N, C, ...], with pads on either side and windows that reach over the end."""
    begins, ends = sides(x.shape[2:], kernel, strides, pads, dilations, auto)
    sizes = pooled_sizes(x.shape[2:], kernel, strides, begins, ends, dilations, ceil)
    reach = [(d * (k - 1) + 1) for k, d in zip(kernel, dilations, strict=True)]
    more = [
        max(0, (size - 1) * stride + wide - (extent + begin + end))
        for size, stride, wide, extent, begin, end in zip(sizes, strides, reach, x.shape[2:], begins, ends, strict=True)
    ]
    padded = list(itertools.chain(*((b, e + m) for b, e, m in reversed(list(zip(begins, ends, more, strict=True))))))
    rank = len(kernel)
    if not average:
        highest = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        made: Tensor = highest(F.pad(x, padded, value=-math.inf) if any(padded) else x, kernel, strides, 0, dilations)
        return _cut(made, sizes)
    if any(each != 1 for each in dilations):
        raise Unsupported("AveragePool with dilations")
    pool: Run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    if not any(padded):
        return _cut(pool(x, kernel, strides), sizes)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_pads:
        ones = F.pad(
            ones, list(itertools.chain(*((b, e) for b, e in reversed(list(zip(begins, ends, strict=True)))))), value=1.0
        )
        counts = F.pad(ones, list(itertools.chain(*((0, m) for m in reversed(more)))))
    else:
        counts = F.pad(ones, padded)
    return _cut(pool(F.pad(x, padded), kernel, strides), sizes) / _cut(pool(counts, kernel, strides), sizes)


def _cut(x: Tensor, sizes: Sequence[int]) -> Tensor:
    return x[(slice(None),) * 2 + tuple(slice(0, size) for size in sizes)]


def _reduce(site: Site, run: Run) -> Reading:
    axes = site.value(1, "axes")
    if axes is not None and not len(_integers(axes)) or (axes is None and site.attribute("noop_with_empty_axes", 0)):
        return Reading(_same, (0,))
    held = None if axes is None else _integers(axes)
    return Reading(partial(_reduced, run=run, axes=held, keep=bool(site.attribute("keepdims", 1))), (0,))


def _reduced(x: Tensor, run: Run, axes: tuple[int, ...] | None, keep: bool) -> Tensor:
    made: Tensor = run(x, dim=tuple(range(x.dim())) if axes is None else axes, keepdim=keep)
    return made


def _l2(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim=dim, keepdim=keepdim).sqrt()


def _l1(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.abs().sum(dim=dim, keepdim=keepdim)


def _sum_of_squares(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim=dim, keepdim=keepdim)


def _global(x: Tensor, run: Run) -> Tensor:
    made: Tensor = run(x, dim=tuple(range(2, x.dim())), keepdim=True)
    return made


def _reshape(site: Site) -> Reading:
    zero = not site.attribute("allowzero", 0)
    if site.static[1] is not None:
        return Reading(partial(_reshaped, shape=_integers(site.static[1]), zero=zero), (0,))
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
    return Reading(partial(_transposed, order=None if order is None else _integers(order)), (0,))


def _joined(*tensors: Tensor, axis: int) -> Tensor:
    return torch.cat(tensors, dim=axis)


def _concat(site: Site) -> Reading:
    return Reading(partial(_joined, axis=int(site.attribute("axis"))), tuple(range(len(site.node.inputs))))


def _split(site: Site) -> Reading:
    sizes = site.value(1, "split")
    parts = None if sizes is None else _integers(sizes)
    count = int(site.attribute("num_outputs", len(site.node.outputs)))
    return Reading(partial(_parts, sizes=parts, count=count, axis=int(site.attribute("axis", 0))), (0,))


def _parts(x: Tensor, sizes: tuple[int, ...] | None, count: int, axis: int) -> Sequence[Tensor]:
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = tuple(max(0, min(each, x.shape[axis] - each * place)) for place in range(count))
    return torch.split(x, list(sizes), dim=axis)


def _slice(site: Site) -> Reading:
    starts, ends = _integers(site.value(1, "starts")), _integers(site.value(2, "ends"))
    axes = site.value(3, "axes")
    steps = site.value(4)
    held = tuple(range(len(starts))) if axes is None else _integers(axes)
    paces = (1,) * len(starts) if steps is None else _integers(steps)
    return Reading(partial(_sliced, cuts=tuple(zip(held, starts, ends, paces, strict=True))), (0,))


def _sliced(x: Tensor, cuts: Sequence[tuple[int, int, int, int]]) -> Tensor:
    for axis, start, end, step in cuts:
        size = x.shape[axis]
        if step > 0:
            begin, stop, pace = slice(start, end, step).indices(size)
            x = x[(slice(None),) * (axis % x.dim()) + (slice(begin, max(begin, stop), pace),)]
        else:
            begin = min(max(start + size if start < 0 else start, -1), size - 1)
            stop = min(max(end + size if end < 0 else end, -1), size - 1)
            x = x.index_select(axis % x.dim(), torch.arange(begin, stop, step, device=x.device))
    return x


def _pad(site: Site) -> Reading:
    pads = _integers(site.value(1, "pads"))
    value = site.value(2, "value", 0.0)
    axes = site.value(3)
    number = 0.0 if value is None else float(np.asarray(value).reshape(-1)[0])
    mode = str(site.attribute("mode", "constant"))
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    held = None if axes is None else _integers(axes)
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
    return Reading(partial(_tiled, times=_integers(site.value(1))), (0,))


def _tiled(x: Tensor, times: tuple[int, ...]) -> Tensor:
    return x.repeat(times)


def _expand(site: Site) -> Reading:
    if site.static[1] is not None:
        return Reading(partial(_expanded, shape=_integers(site.static[1])), (0,))
    return Reading(_expanded_to, (0, 1))


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))  # type: ignore[no-untyped-call]


def _expanded_to(x: Tensor, shape: Tensor) -> Tensor:
    return _expanded(x, shape.tolist())


def _squeeze(site: Site) -> Reading:
    axes = site.value(1, "axes")
    return Reading(torch.squeeze if axes is None else partial(torch.squeeze, dim=_integers(axes)), (0,))


def _unsqueeze(site: Site) -> Reading:
    return Reading(partial(_unsqueezed, axes=_integers(site.value(1, "axes"))), (0,))


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
    return made.reshape(*x.shape[: axis % x.dim()], *places.shape, *x.shape[axis % x.dim() + 1 :])


def _filled(shape: Tensor, value: float | int, dtype: torch.dtype) -> Tensor:
    return torch.full(shape.tolist(), value, dtype=dtype)


def _constant_of_shape(site: Site) -> Reading:
    held = site.attribute("value")
    array = np.zeros(1, np.float32) if held is None else _array(held)
    return Reading(partial(_filled, value=array.reshape(-1)[0].item(), dtype=torch.from_numpy(array).dtype), (0,))


def _array(tensor: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    return np.array(numpy_helper.to_array(tensor))


def _leaky(site: Site) -> Reading:
    return Reading(partial(F.leaky_relu, negative_slope=float(site.attribute("alpha", 0.01))), (0,))


def _elu(site: Site) -> Reading:
    return Reading(partial(F.elu, alpha=float(site.attribute("alpha", 1.0))), (0,))


def _hard_sigmoid(site: Site) -> Reading:
    alpha, beta = float(site.attribute("alpha", 0.2)), float(site.attribute("beta", 0.5))
    return Reading(partial(_hard, alpha=alpha, beta=beta), (0,))


def _hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


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


def _power(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


_FUNCTIONS: Mapping[str, Run] = MappingProxyType(
    {
        "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _divide, "Pow": _power, "Mod": torch.remainder,
        "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
        "Equal": torch.eq, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
        "Where": torch.where, "MatMul": torch.matmul,
        "Max": partial(_fold, torch.maximum), "Min": partial(_fold, torch.minimum),
        "Sum": partial(_fold, torch.add), "Mean": _average,
        "Abs": torch.abs, "Ceil": torch.ceil, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
        "HardSwish": F.hardswish, "Identity": _same, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
        "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Selu": torch.selu,
        "Sigmoid": torch.sigmoid, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
        "Tanh": torch.tanh,
        "GlobalAveragePool": partial(_global, run=torch.mean), "GlobalMaxPool": partial(_global, run=torch.amax),
    }
)  # fmt: skip
_REDUCTIONS: Mapping[str, Run] = MappingProxyType(
    {"Mean": torch.mean, "Sum": torch.sum, "Max": torch.amax, "Min": torch.amin, "L1": _l1, "L2": _l2,
     "SumSquare": _sum_of_squares}
)  # fmt: skip

#: How the operators without parameters run, by type.
OPERATORS: Mapping[str, Callable[[Site], Reading]] = MappingProxyType(
    {
        **{name: _all(run) for name, run in _FUNCTIONS.items()},
        **{f"Reduce{name}": partial(_reduce, run=run) for name, run in _REDUCTIONS.items()},
        "AveragePool": partial(_pool, average=True),
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concat,
        "ConstantOfShape": _constant_of_shape,
        "DepthToSpace": _depth_to_space,
        "Dropout": _first(_same),
        "Elu": _elu,
        "Expand": _expand,
        "Flatten": _flatten_from,
        "Gather": _gather,
        "HardSigmoid": _hard_sigmoid,
        "LeakyRelu": _leaky,
        "LogSoftmax": partial(_softmax, run=F.log_softmax),
        "MaxPool": partial(_pool, average=False),
        "Pad": _pad,
        "Reshape": _reshape,
        "Shape": _shape_of,
        "Slice": _slice,
        "Softmax": partial(_softmax, run=F.softmax),
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
