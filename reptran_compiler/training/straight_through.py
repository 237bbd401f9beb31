"""Binarisation with a gradient: the sign of a tensor forward, a straight-through estimator backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

#: The derivative that stands for that of sign, at x, when a share `progress` (0 to 1) of the training is done: a new
#: tensor, which its caller may change.
Derivative = Callable[[Tensor, float], Tensor]


def identity(x: Tensor, progress: float = 0.0) -> Tensor:
    """1 everywhere (XNOR-Net's weights, arXiv 1603.05279)."""
    return torch.ones_like(x)


def clip(x: Tensor, progress: float = 0.0) -> Tensor:
    """1 where |x| <= 1, else 0: the derivative of Clip (BinaryNet, arXiv 1602.02830)."""
    return (x.abs() <= 1).to(x.dtype)


def polynomial(x: Tensor, progress: float = 0.0) -> Tensor:
    """2 - 2|x| where |x| < 1, else 0: that of a piecewise polynomial (Bi-Real Net, arXiv 1808.00278, equation 6)."""
    return x.abs().mul_(-2).add_(2).clamp_(min=0)


def tanh(x: Tensor, progress: float = 0.0) -> Tensor:
    """k t (1 - tanh(t x)^2) with t from 0.1 to 10 and k = max(1/t, 1) (IR-Net, arXiv 1909.10788, eq. 10 to 13)."""
    t = 10 ** (-1 + 2 * progress)
    return max(1 / t, 1.0) * t * (1 - torch.tanh(t * x) ** 2)


def rectified_clamp(x: Tensor, progress: float = 0.0) -> Tensor:
    """1 where |x| <= -ln(2 - 2 tau) mean|x|, else 0: that of a clamp to the quantiles tau and 1 - tau of a Laplacian.

    tau goes from 0.85 to 0.99, as an exponential (ReCU, arXiv 2103.12369, section 3; cifar/main.py of its authors).
    """
    tau = 0.85 + 0.14 * (math.exp(progress) - 1) / (math.e - 1)
    return (x.abs() <= -math.log(2 - 2 * tau) * x.abs().mean()).to(x.dtype)


#: The estimators by name.
ESTIMATORS: Mapping[str, Derivative] = MappingProxyType(
    {"identity": identity, "clip": clip, "polynomial": polynomial, "tanh": tanh, "recu": rectified_clamp}
)


class _Sign(torch.autograd.Function):
    """sign(x), 0 or +1 at 0; backward, the gradient times a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: bool, derivative: Derivative, progress: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.derivative, ctx.progress = derivative, progress
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype) if up else torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.derivative(x, ctx.progress).mul_(gradients[0]), None, None, None


class Sign(nn.Module):
    """The binarisation of a feature map: +-1 of the sign of each element, in its shape and dtype.

    Args:
        estimator: the name of its straight-through estimator, one of `ESTIMATORS`.
        up: whether it is +1 at 0 (the sibling of Sign); else it is 0 there.

    Attributes:
        progress: the share of the training that is done, 0 to 1; `anneal` sets it.
    """

    def __init__(self, estimator: str = "polynomial", up: bool = False) -> None:
        super().__init__()
        if estimator not in ESTIMATORS:
            raise ValueError(f"there is no estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")
        self.estimator, self.up, self.progress = estimator, up, 0.0

    def anneal(self, progress: float) -> None:
        """Tell which share of the training is done: some estimators sharpen."""
        if not (0 <= progress <= 1) or math.isnan(progress):
            raise ValueError(f"progress is {progress}; it has to be from 0 to 1")
        self.progress = progress

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = _Sign.apply(x, self.up, ESTIMATORS[self.estimator], self.progress)  # type: ignore[no-untyped-call]
        return made

    def extra_repr(self) -> str:
        """The estimator, and what it is at 0 where that is +1."""
        return self.estimator + (", +1 at 0" if self.up else "")


class WeightSign(Sign):
    """The binarisation of weights.

    Attributes:
        real: whether the weights are used as they are, without a sign, as in the first of two steps of training.
    """

    def __init__(self, estimator: str = "clip", up: bool = False) -> None:
        super().__init__(estimator, up)
        self.real = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.real else super().forward(x)


class _Round(torch.autograd.Function):
    """Rounding, ties to even; backward, the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


class Round(nn.Module):
    """Rounding to integers, ties to even (ONNX Round), with the identity as its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
        return made
