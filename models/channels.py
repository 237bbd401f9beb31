"""Per-channel operators: their RepTran form is the same operator on beta * C channels, with a copy of the
parameters for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers import replicate


class PerChannel(nn.Module):
    """Base of the operators whose parameters and buffers all have one entry per channel."""

    beta: int

    def inherit(self, source: nn.Module) -> None:
        """Take over the parameters of the same operator in the original network, beta times side by side."""
        mine = dict(self.named_parameters()) | dict(self.named_buffers())
        theirs = dict(source.named_parameters()) | dict(source.named_buffers())
        with torch.no_grad():
            for name, value in mine.items():
                axis = next((i for i, n in enumerate(value.shape) if n != 1), 0)
                value.copy_(replicate(theirs[name], self.beta, axis) if value.dim() else theirs[name])


class Norm2d(PerChannel, nn.BatchNorm2d):
    """BatchNormalization of [N, beta*C, H, W]."""

    def __init__(self, channels: int, *, beta: int = 1) -> None:
        super().__init__(beta * channels)
        self.beta = beta


class Norm1d(PerChannel, nn.BatchNorm1d):
    """BatchNormalization of [N, beta*C]."""

    def __init__(self, channels: int, *, beta: int = 1) -> None:
        super().__init__(beta * channels)
        self.beta = beta


class PRelu(PerChannel, nn.PReLU):
    """PReLU with a slope for each of beta*C channels (arXiv 1502.01852; RPReLU with the biases around it,
    arXiv 2003.03488)."""

    def __init__(self, channels: int, *, beta: int = 1) -> None:
        super().__init__(beta * channels)
        self.beta = beta


class LearnableBias(PerChannel):
    """The learnable shift of ReActNet's RSign and RPReLU: a bias [1, beta*C, 1, 1], expanded to the map as
    its authors do."""

    def __init__(self, channels: int, *, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.bias = nn.Parameter(torch.empty(1, beta * channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand_as(x)


class ChannelScale(PerChannel):
    """A learnable factor [beta*C, 1, 1] behind a convolution (ReCU's alpha)."""

    def __init__(self, channels: int, *, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.alpha = nn.Parameter(torch.empty(beta * channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha


class Fused(nn.Identity):
    """What `models.fuse` leaves in the place of a BatchNormalization that it has taken into the layer in
    front of it."""
