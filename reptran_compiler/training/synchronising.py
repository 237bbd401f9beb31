"""BatchNormalization over the images of all processes.

torch's SyncBatchNorm does that on GPUs alone. Without it every process normalises by the statistics of its own share,
and several processes train another network than one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from reptran_compiler.training.processes import Processes


@contextmanager
def synchronised(network: nn.Module, processes: Processes) -> Iterator[None]:
    """While the block runs, normalise by the statistics of all processes' images together.

    Mean, variance, running statistics and gradients are those that one process finds for the whole batch, but for
    rounding. Only the `forward` of BatchNormalization modules changes: types, parameters and names stay.

    Raises:
        TypeError: a subclass of BatchNorm computes something of its own.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)] if processes.count > 1 else []
    for norm in norms:
        if type(norm).forward is not _BatchNorm.forward:
            raise TypeError(f"{type(norm).__name__} has a forward of its own, which cannot be synchronised")
    for norm in norms:
        setattr(norm, "forward", MethodType(_forward, norm))  # noqa: B010 - a type checker forbids the assignment
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Sum(Function):
    """The sum of the processes' tensors; the gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> Tensor:
        total: Tensor = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _total(numbers: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(numbers)  # type: ignore[no-untyped-call]
    return total


def _forward(self: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise [n, C, ...] in training mode by mean and variance over all processes; else as ever."""
    if not self.training:
        return _BatchNorm.forward(self, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *([1] * (x.dim() - 2))]
    wide = x if x.dtype == torch.float64 else x.float()
    here = wide.new_full((1,), x.numel() / x.shape[1])
    sums = _total(torch.cat([wide.sum(axes), here]))
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centred = wide - mean.view(shape)
    variance = _total((centred * centred).sum(axes)) / count  # from the mean: E[x^2] - E[x]^2 would cancel
    _update(self, mean.detach(), variance.detach() * count / (count - 1))
    normal = centred * torch.rsqrt(variance + self.eps).view(shape)
    if self.weight is not None:
        normal = normal * self.weight.view(shape) + self.bias.view(shape)
    return normal.to(x.dtype)


def _update(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as BatchNorm does."""
    if norm.running_mean is None or norm.running_var is None:
        return
    count = norm.num_batches_tracked
    if count is not None:
        count.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(count) if count is not None else 0.0
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)
