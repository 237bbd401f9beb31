"""Layers: convolutions and products of matrices, as they are in the source and as RepConvs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reptran_compiler.training.holding import Holding, repeated
from reptran_compiler.training.norms import FusedNorm, RepNorm
from reptran_compiler.training.padding import sides
from reptran_compiler.training.straight_through import WeightSign


class Layer(Holding):
    """A layer: with weights of its own, which may be latent, or with weights that it is given.

    Args:
        weight: its weights, or the latent ones of a binary layer; None where they are computed elsewhere in the
            network, and given with the map.
        bias: a number a channel, or None.

    Attributes:
        binarise: what makes binary weights of latent ones; None for a real layer.
        baked: whether the file stores the binary weights, and not the latent ones.
        times: how often the map that comes out is repeated along the channels: beta^2 of a RepConv, beta of a stem
            in a Rep network, else 1.
        norm: the normalisation of that map, which may repeat it; None where the file has none directly behind.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    binarise: WeightSign | None
    norm: RepNorm | None

    def __init__(self, weight: Tensor | None, bias: Tensor | None) -> None:
        super().__init__()
        self.register_parameter("weight", None if weight is None else nn.Parameter(weight))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))
        self.binarise, self.norm = None, None
        self.baked, self.times = False, 1

    def effective(self) -> Tensor:
        """The weights that it computes with: binary ones of a binary layer."""
        assert self.weight is not None
        return self.weight if self.binarise is None else self.binarise(self.weight)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution, or the product, alone."""
        raise NotImplementedError

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Args: the map; the weights where it has none; the bias where that is computed, too."""
        weight, *bias = (self.effective(), *given) if self.weight is not None else given
        y = self.operate(x, weight, bias[0] if bias else self.bias)
        return self.normalised(y)

    def normalised(self, y: Tensor) -> Tensor:
        """What becomes of the map that the layer computes: it is normalised, and repeated."""
        return repeated(y, self.times) if self.norm is None else repeated(self.norm(y), self.times // self.norm.times)

    def written(self) -> Mapping[str, Tensor]:
        """Its weights, binary where the file has them so, and its bias."""
        made = dict(super().written())
        if self.weight is not None and isinstance(self.norm, FusedNorm):
            factor = self.norm.scale.reshape(-1, *[1] * (self.weight.dim() - 1))
            made[self.names["weight"]] = self.weight * factor
        if self.baked and self.weight is not None and self.binarise is not None:
            made[self.names["weight"]] = (
                torch.where(self.weight >= 0, 1.0, -1.0) if self.binarise.up else torch.sign(self.weight)
            )
        return made

    def __repr__(self) -> str:
        parts = ["computed weights" if self.weight is None else str(list(self.weight.shape)), *self.differences()]
        parts += [f"repeated {self.times} times"] if self.times > 1 else []
        parts += [repr(each) for each in (self.binarise, self.norm) if each is not None]
        return f"{self._get_name()}({', '.join(parts)})"

    def differences(self) -> list[str]:
        """What is said of it when it is printed, besides its weights' shape."""
        return []

    def _get_name(self) -> str:
        return ("Rep" if self.times > 1 else "") + type(self).__name__


@dataclass(frozen=True)
class Windows:
    """How a convolution goes over its map; an entry a spatial axis, as in ONNX Conv.

    Attributes:
        kernel, strides, dilations: sizes.
        pads: all in front, then all behind.
        auto: the attribute `auto_pad`.
        groups: into how many groups of channels the map is cut.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    auto: str = "NOTSET"
    groups: int = 1


class Conv(Layer):
    """A convolution [N, Ci, ...] -> [N, Co, ...] with weights [Co, Ci/groups, ...] (ONNX Conv).

    As a RepConv its weights are W'[Co/beta, beta*Ci/groups, ...], and its output is repeated beta^2 times.
    """

    def __init__(self, weight: Tensor | None, bias: Tensor | None, windows: Windows) -> None:
        super().__init__(weight, bias)
        self.windows = windows

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution alone."""
        how = self.windows
        begins, ends = sides(x.shape[2:], how.kernel, how.strides, how.pads, how.dilations, how.auto)
        pads: Sequence[int] = begins
        if begins != ends:
            x = F.pad(x, list(itertools.chain(*reversed(list(zip(begins, ends, strict=True))))))
            pads = [0] * len(begins)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(how.kernel) - 1]
        return convolve(x, weight, bias, how.strides, list(pads), how.dilations, how.groups)

    def differences(self) -> list[str]:
        """What differs from a plain convolution."""
        how = self.windows
        parts = [f"stride {list(how.strides)}"] if set(how.strides) != {1} else []
        parts += [f"pads {list(how.pads)}"] if any(how.pads) else []
        parts += [f"dilation {list(how.dilations)}"] if set(how.dilations) != {1} else []
        return parts + ([f"{how.groups} groups"] if how.groups > 1 else [])


@dataclass(frozen=True)
class Product:
    """How a product of matrices reads its operands (ONNX Gemm; MatMul has the defaults).

    Attributes:
        turned: whether the weights are [outputs, inputs].
        left: whether the weights are the left operand.
        alpha, beta: factors of the product and of the bias.
    """

    turned: bool = False
    left: bool = False
    alpha: float = 1.0
    beta: float = 1.0


class Linear(Layer):
    """A product of a map [..., Ci] with weights [Ci, Co], or [Co, Ci] where they are turned (ONNX Gemm, MatMul)."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, product: Product = Product()) -> None:
        super().__init__(weight, bias)
        self.product = product

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product alone."""
        how = self.product
        matrix = weight.transpose(-1, -2) if how.turned else weight
        y = matrix @ x if how.left else x @ matrix
        y = y if how.alpha == 1 else how.alpha * y
        if bias is None:
            return y
        return y + (bias if how.beta == 1 else how.beta * bias)


class Arithmetic(Holding):
    """Addition, subtraction, multiplication or division of a map and a parameter, which broadcasts as in the file.

    Args:
        op: the ONNX operator.
        parameter: the file's tensor.
        left: whether the parameter is the left operand.
    """

    def __init__(self, op: str, parameter: Tensor, left: bool) -> None:
        super().__init__()
        self.op, self.left = op, left
        self.parameter = nn.Parameter(parameter)

    def forward(self, x: Tensor) -> Tensor:
        one, other = (self.parameter, x) if self.left else (x, self.parameter)
        made: Tensor = getattr(torch, self.op.lower())(one, other)
        return made

    def _get_name(self) -> str:
        return self.op

    def extra_repr(self) -> str:
        """The parameter's shape."""
        return str(list(self.parameter.shape))


class PRelu(Holding):
    """x where it is not negative, else a slope times x; the slopes broadcast as in the file (ONNX PRelu)."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1] if x.dim() > 1 else 0
        rest = self.slope.dim() - (x.dim() - 1)
        if self.slope.numel() == channels and rest >= 0 and self.slope.shape[rest] == channels:
            return F.prelu(x, self.slope.reshape(-1))
        return torch.where(x < 0, self.slope * x, x)

    def extra_repr(self) -> str:
        """The slopes' shape."""
        return str(list(self.slope.shape))


class Stored(Holding):
    """A parameter that an operator reads which has no module of its own here."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self) -> Tensor:
        return self.value

    def extra_repr(self) -> str:
        """Its shape."""
        return str(list(self.value.shape))
