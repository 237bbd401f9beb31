"""ShuffleNet V2 1.5x (Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
arXiv 1807.11164) binarised as ReActNet binarises MobileNet: the 1x1 convolutions binary, the depthwise one of
a unit's main branch replaced by a binary convolution in two groups, real depthwise ones in the downsampling
shortcut, a 1x1 convolution as classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.activations import WhereSign
from models.channels import LearnableBias, Norm2d, PRelu
from models.layers import Conv2d, ConvClassifier, DepthwiseConv2d, conv, replicate
from models.weightings import residue


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups: Reshape, Transpose, Reshape, of [N, C, H, W]."""
    n, channels, height, width = x.shape
    return x.view(n, groups, channels // groups, height, width).transpose(1, 2).reshape(n, channels, height, width)


class BinaryUnit(nn.Sequential):
    """Learnable bias, Sign, binary convolution, BatchNormalization, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, beta: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            LearnableBias(inputs, beta=beta),
            WhereSign(),
            conv(inputs, outputs, kernel, stride=stride, groups=groups, beta=beta, weighting=residue),
            Norm2d(outputs, beta=beta),
            PRelu(outputs, beta=beta),
        )


class Unit(nn.Module):
    """Half of the channels pass, half go through 1x1, grouped 3x3 and 1x1; a downsampling unit sends all
    through two branches."""

    def __init__(self, inputs: int, outputs: int, beta: int) -> None:
        super().__init__()
        half = outputs // 2
        self.downsamples = inputs != outputs
        stride, first = (2, inputs) if self.downsamples else (1, half)
        self.branch = nn.Sequential(
            BinaryUnit(first, half, 1, beta),
            BinaryUnit(half, half, 3, beta, stride, groups=2),
            BinaryUnit(half, half, 1, beta),
        )
        self.shortcut = (
            nn.Sequential(
                DepthwiseConv2d(inputs, stride=2, beta=beta),
                Norm2d(inputs, beta=beta),
                BinaryUnit(inputs, half, 1, beta),
            )
            if self.downsamples
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        passing, worked = (x, x) if self.downsamples else torch.chunk(x, 2, dim=1)
        return shuffle(torch.cat([self.shortcut(passing), self.branch(worked)], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """Stages of 4, 8 and 4 units at 176, 352 and 704 channels: [N, 3, H, W] -> [N, classes]."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(Conv2d(3, 24, 3, stride=2), Norm2d(24), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        units: list[nn.Module] = []
        inputs = 24
        for count, width in ((4, 176), (8, 352), (4, 704)):
            for _ in range(count):
                units.append(Unit(inputs, width, beta))
                inputs = width
        self.units = nn.Sequential(*units)
        self.last = BinaryUnit(704, 1024, 1, beta)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = ConvClassifier(1024, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = self.units(replicate(self.stem(x), self.beta))
        result: Tensor = self.fc(self.pool(self.last(x))).flatten(1)
        return result
