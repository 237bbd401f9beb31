"""Pooling of ONNX as functions of torch tensors [N, C, ...]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from reptran_compiler.training.padding import pooled_sizes, sides
from reptran_compiler.training.sites import Reading, Run, Site, Unsupported, integers


def pool(site: Site, average: bool) -> Reading:
    """MaxPool, or AveragePool."""
    kernel = integers(site.attribute("kernel_shape"))
    rank = len(kernel)
    if len([name for name in site.node.outputs if name]) > 1:
        raise Unsupported("its second output is read")
    if average and any(each != 1 for each in integers(site.attribute("dilations", [1] * rank))):
        raise Unsupported("its window is dilated")
    run = partial(
        _pooled,
        average=average,
        kernel=kernel,
        strides=integers(site.attribute("strides", [1] * rank)),
        pads=integers(site.attribute("pads", [0] * 2 * rank)),
        dilations=integers(site.attribute("dilations", [1] * rank)),
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
        pool_maxima = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        made: Tensor = pool_maxima(
            F.pad(x, padded, value=-math.inf) if any(padded) else x, kernel, strides, 0, dilations
        )
        return _cut(made, sizes)
    average_pool: Run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    if not any(padded):
        return _cut(average_pool(x, kernel, strides), sizes)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if count_pads:
        ones = F.pad(
            ones, list(itertools.chain(*((b, e) for b, e in reversed(list(zip(begins, ends, strict=True)))))), value=1.0
        )
        counts = F.pad(ones, list(itertools.chain(*((0, m) for m in reversed(more)))))
    else:
        counts = F.pad(ones, padded)
    return _cut(average_pool(F.pad(x, padded), kernel, strides), sizes) / _cut(
        average_pool(counts, kernel, strides), sizes
    )


def _cut(x: Tensor, sizes: Sequence[int]) -> Tensor:
    return x[(slice(None),) * 2 + tuple(slice(0, size) for size in sizes)]


def pool_globally(x: Tensor, run: Run) -> Tensor:
    """A number a channel of [N, C, ...], all spatial axes of size 1."""
    made: Tensor = run(x, dim=tuple(range(2, x.dim())), keepdim=True)
    return made
