"""Convolutions and linear layers, each as the original has it and as a RepConv.

The RepTran forms here are written from the RepBNN paper (arXiv 2207.09049) and do not look at any graph: a
`RepConv2d` keeps the original's weights W[Co, Ci/groups, kh, kw], convolves beta * Ci channels with the row
blocks of W side by side along the input channels, and repeats the Co / beta maps that come out beta^2 times.
They are the reference that compiled files are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.weightings import Weighting


def replicate(x: Tensor, times: int, axis: int = 1) -> Tensor:
    """`times` copies of `x` as blocks along `axis` (the channels); `x` itself for one."""
    return x if times == 1 else torch.cat([x] * times, dim=axis)


def per_channel(p: Tensor, dims: int) -> Tensor:
    """A vector [C] shaped to meet a map of `dims` axes whose axis 1 is the channels."""
    return p.view(1, -1, *([1] * (dims - 2)))


class Layer(nn.Module):
    """A convolution or linear layer: real, or with binary weights computed by `weighting` from the latent
    `weight`.

    `bias` and `gain` are [Co] or None; `gain` is a factor per filter of the weights, which only `models.fuse`
    and a binary classifier's RepTran form use."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    gain: Tensor | None

    def __init__(self, shape: tuple[int, ...], bias: bool, weighting: Weighting | None) -> None:
        super().__init__()
        self.weighting = weighting
        self.weight = nn.Parameter(torch.empty(shape))
        self.register_parameter("bias", nn.Parameter(torch.empty(shape[0])) if bias else None)
        self.register_buffer("gain", None)

    def effective(self) -> Tensor:
        """The weights that the layer computes with, in the shape of `weight`."""
        weight = self.weight if self.weighting is None else self.weighting(self.weight)
        return weight if self.gain is None else weight * self.gain.view(-1, *([1] * (weight.dim() - 1)))

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's convolution or product with a given weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.operate(x, self.effective(), self.bias)

    def fold(self, factor: Tensor, shift: Tensor) -> None:
        """Take the affine map `factor * y + shift` behind the layer ([Co] each) into it, as an exporter does.

        Real weights are multiplied.  Binary ones keep their magnitude apart, and a negative factor flips
        their signs."""
        bias = shift if self.bias is None else self.bias * factor + shift
        if self.weighting is None:
            direction = factor
        else:
            direction = torch.sign(factor)
            self.gain = factor.abs() if self.gain is None else self.gain * factor.abs()
        shape = (-1, *([1] * (self.weight.dim() - 1)))
        self.weight = nn.Parameter(self.weight.detach() * direction.detach().view(shape))
        self.bias = nn.Parameter(bias.detach())

    def inherit(self, source: Layer) -> None:
        """Take over the parameters of the same layer in the original network (here: as they are)."""
        self.weight, self.bias, self.gain = source.weight, source.bias, source.gain


class Conv2d(Layer):
    """A 2-D convolution [N, Ci, H, W] -> [N, Co, H', W'] with "same" padding unless told otherwise."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__((outputs, inputs // groups, kernel, kernel), bias, weighting)
        self.stride = stride
        self.padding = kernel // 2 if padding is None else padding
        self.groups = groups

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)


class Linear(Layer):
    """A linear layer [N, Ci] -> [N, Co]."""

    groups = 1

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, weighting: Weighting | None = None) -> None:
        super().__init__((outputs, inputs), bias, weighting)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)


class DepthwiseConv2d(Conv2d):
    """A depthwise convolution: a per-channel operator, so its RepTran form is the same operator on beta times
    the channels."""

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        multiplier: int = 1,
        beta: int = 1,
        weighting: Weighting | None = None,
    ) -> None:
        wide = beta * channels
        super().__init__(wide, wide * multiplier, kernel, stride=stride, groups=wide, weighting=weighting)
        self.beta = beta

    def inherit(self, source: Layer) -> None:
        self.weight = nn.Parameter(replicate(source.weight.detach(), self.beta, axis=0))
        self.bias = None if source.bias is None else nn.Parameter(replicate(source.bias.detach(), self.beta, axis=0))
        self.gain = None if source.gain is None else replicate(source.gain, self.beta, axis=0)


class _Rep(Layer):
    """What makes a layer a RepConv; the class behind it says how to convolve.  `bias` is [beta * Co], one per
    wide channel."""

    beta: int
    groups: int

    def _widen(self, beta: int) -> None:
        outputs = self.weight.shape[0]
        if outputs % (self.groups * beta):
            raise ValueError(f"{outputs} filters in {self.groups} groups cannot be shared by beta = {beta} copies")
        self.beta = beta
        if self.bias is not None:
            self.bias = nn.Parameter(torch.empty(beta * outputs))

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """What is convolved with, in the shape of `weight`, and the magnitude [Co] behind it (None: there is
        none).

        Binary weights are convolved as their signs alone, so that the sums are exact integers."""
        weight = self.effective()
        if self.weighting is None:
            return weight, None
        return torch.sign(weight), weight.abs().flatten(1).amax(1)

    def rearrange(self, weight: Tensor) -> Tensor:
        """W[Co, Ci/groups, ...] to W'[Co/beta, beta*Ci/groups, ...]: inside each group, the beta row blocks
        side by side."""
        rows = weight.shape[0] // (self.groups * self.beta)
        blocks = weight.reshape(self.groups, self.beta, rows, *weight.shape[1:])
        return torch.cat([blocks[:, r] for r in range(self.beta)], dim=2).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight, scale = self.factors()
        y = replicate(self.operate(x, self.rearrange(weight)), self.beta**2)
        if scale is not None:
            y = y * per_channel(replicate(scale, self.beta, axis=0), y.dim())
        return y if self.bias is None else y + per_channel(self.bias, y.dim())

    def inherit(self, source: Layer) -> None:
        super().inherit(source)
        if source.bias is not None:
            self.bias = nn.Parameter(replicate(source.bias.detach(), self.beta, axis=0))


class RepConv2d(_Rep, Conv2d):
    """The RepConv of RepBNN: [N, beta*Ci, H, W] -> [N, beta*Co, H', W'] with the weights and MACs of the
    `Conv2d` it is made from.

    `inputs` and `outputs` are Ci and Co, the channels of the original.  Raises ValueError if beta does not
    divide Co / groups."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, beta: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self._widen(beta)


class RepLinear(_Rep, Linear):
    """A hidden linear layer as a RepConv with a 1x1 kernel: [N, beta*Ci] -> [N, beta*Co]."""

    def __init__(self, inputs: int, outputs: int, *, beta: int, **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        self._widen(beta)


class _Widened(Layer):
    """A classifier on beta times the features: `[W | ... | W] / beta`, or for binary weights the 1/beta in
    their magnitude."""

    beta: int

    def inherit(self, source: Layer) -> None:
        self.bias = source.bias
        weight = replicate(source.weight.detach(), self.beta)
        if self.weighting is None:
            self.weight = nn.Parameter(weight / self.beta)
        else:
            self.weight = nn.Parameter(weight)
            gain = torch.ones(weight.shape[0]) if source.gain is None else source.gain
            self.gain = gain if self.beta == 1 else gain / self.beta


class LinearClassifier(_Widened, Linear):
    """The last layer, [N, beta*features] -> [N, classes]."""

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        beta: int = 1,
        bias: bool = True,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__(beta * features, classes, bias=bias, weighting=weighting)
        self.beta = beta


class ConvClassifier(_Widened, Conv2d):
    """The last layer as a 1x1 convolution, [N, beta*features, H, W] -> [N, classes, H, W]."""

    def __init__(self, features: int, classes: int, *, beta: int = 1) -> None:
        super().__init__(beta * features, classes, 1, bias=True)
        self.beta = beta


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    beta: int = 1,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
    weighting: Weighting | None = None,
) -> Conv2d:
    """A `Conv2d` for beta = 1, its `RepConv2d` for more."""
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "groups": groups,
        "bias": bias,
        "weighting": weighting,
    }
    if beta == 1:
        return Conv2d(inputs, outputs, kernel, **options)
    return RepConv2d(inputs, outputs, kernel, beta=beta, **options)


def linear(
    inputs: int, outputs: int, *, beta: int = 1, bias: bool = False, weighting: Weighting | None = None
) -> Linear:
    """A `Linear` for beta = 1, its `RepLinear` for more."""
    if beta == 1:
        return Linear(inputs, outputs, bias=bias, weighting=weighting)
    return RepLinear(inputs, outputs, beta=beta, bias=bias, weighting=weighting)
