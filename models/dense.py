"""BinaryDenseNet-28 (Bethge et al., "Back to Simplicity: How to Train Accurate BNNs from Scratch?", arXiv
1906.08637) and MeliusNet-22 (Bethge et al., "MeliusNet: Can Binary Neural Networks Achieve MobileNet-level
Accuracy?", arXiv 2001.05936).

Both grow by Concat of 64 binary channels at a time and shrink by real-valued 1x1 convolutions between their
sections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.activations import Binarise, CastSign, NestedSign
from models.channels import Norm2d
from models.layers import Conv2d, LinearClassifier, conv, replicate
from models.weightings import clipped_sign, sign

GROWTH = 64


class DenseBlock(nn.Module):
    """BatchNormalization, Sign, binary 3x3 convolution; the 64 new channels go behind the old ones."""

    def __init__(self, inputs: int, beta: int, binarise: type[Binarise]) -> None:
        super().__init__()
        self.bn, self.sign = Norm2d(inputs, beta=beta), binarise()
        self.conv = conv(inputs, GROWTH, 3, beta=beta, weighting=sign if binarise is CastSign else clipped_sign)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.sign(self.bn(x)))], dim=1)


class ImprovementBlock(nn.Module):
    """MeliusNet's second block: a binary 3x3 convolution of all channels is added to the newest 64 of them,
    by Slice and Concat."""

    def __init__(self, inputs: int, beta: int) -> None:
        super().__init__()
        self.kept = beta * (inputs - GROWTH)
        self.bn, self.sign = Norm2d(inputs, beta=beta), NestedSign()
        self.conv = conv(inputs, GROWTH, 3, beta=beta, weighting=clipped_sign)

    def forward(self, x: Tensor) -> Tensor:
        newest = x[:, self.kept :] + self.conv(self.sign(self.bn(x)))
        return torch.cat([x[:, : self.kept], newest], dim=1)


class SplitImprovementBlock(ImprovementBlock):
    """The same function, written with Split."""

    def forward(self, x: Tensor) -> Tensor:
        old, newest = torch.split(x, [self.kept, x.size(1) - self.kept], dim=1)
        return torch.cat([old, newest + self.conv(self.sign(self.bn(x)))], dim=1)


def transition(inputs: int, outputs: int, beta: int) -> nn.Module:
    """BatchNormalization, MaxPool, ReLU, real 1x1 convolution."""
    return nn.Sequential(Norm2d(inputs, beta=beta), nn.MaxPool2d(2, 2), nn.ReLU(), conv(inputs, outputs, 1, beta=beta))


class _Grown(nn.Module):
    """What both networks do behind their stem and body: BatchNormalization, ReLU, global pooling,
    classifier."""

    def __init__(self, stem: nn.Module, body: list[nn.Module], features: int, classes: int, beta: int) -> None:
        super().__init__()
        self.beta = beta
        self.stem, self.body = stem, nn.Sequential(*body)
        self.head = nn.Sequential(Norm2d(features, beta=beta), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.fc = LinearClassifier(features, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(replicate(self.stem(x), self.beta))
        result: Tensor = self.fc(self.head(x).flatten(1))
        return result


class BinaryDenseNet28(_Grown):
    """Sections of 6, 6, 6 and 5 dense blocks, reductions of 2.7, 2.7 and 2.2: [N, 3, H, W] -> [N,
    classes]."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        stem = nn.Sequential(Conv2d(3, 64, 7, stride=2), Norm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        body: list[nn.Module] = []
        channels = 64
        for blocks, reduction in ((6, 2.7), (6, 2.7), (6, 2.2), (5, None)):
            for _ in range(blocks):
                body.append(DenseBlock(channels, beta, CastSign))
                channels += GROWTH
            if reduction is not None:
                reduced = round(channels / reduction / 32) * 32
                body.append(transition(channels, reduced, beta))
                channels = reduced
        super().__init__(stem, body, channels, classes, beta)


class MeliusNet22(_Grown):
    """Sections of 4, 5, 4 and 4 pairs of dense and improvement block, behind a stem of three small (grouped)
    real convolutions, of which the grouped ones are inner real layers: [N, 3, H, W] -> [N, classes]."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        body: list[nn.Module] = [
            conv(32, 32, 3, groups=4, beta=beta),
            Norm2d(32, beta=beta),
            nn.ReLU(),
            conv(32, 64, 3, groups=8, beta=beta),
            Norm2d(64, beta=beta),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        channels = 64
        for pairs, reduced in ((4, 160), (5, 224), (4, 256), (4, None)):
            for i in range(pairs):
                body.append(DenseBlock(channels, beta, NestedSign))
                channels += GROWTH
                body.append((SplitImprovementBlock if i % 2 else ImprovementBlock)(channels, beta))
            if reduced is not None:
                body.append(transition(channels, reduced, beta))
                channels = reduced
        super().__init__(
            nn.Sequential(Conv2d(3, 32, 3, stride=2), Norm2d(32), nn.ReLU()), body, channels, classes, beta
        )
