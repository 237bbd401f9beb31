"""The CIFAR ResNet-20 in three binarised versions, with the parameter-free shortcut (option A) where the
shape changes.

ReCU: Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural Networks", arXiv 2103.12369. IR-Net: Qin et
al., "Forward and Backward Information Retention for Accurate Binary Neural Networks", arXiv 1909.10788.
FracBNN: Zhang et al., "FracBNN: Accurate and FPGA-Efficient Binary Neural Networks with Fractional
Activations", arXiv 2012.12206; here with both of its 1-bit digits always convolved, without the gate that
skips the second."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.activations import NestedSign, Sign, TanhSign
from models.channels import ChannelScale, LearnableBias, Norm1d, Norm2d
from models.layers import Conv2d, LinearClassifier, conv, replicate
from models.weightings import balanced, clipped, rectified_clamp


class OptionA(nn.Module):
    """Halve a map in space, by stride or by AvgPool, and pad zero channels on both sides: [N, C, H, W] -> [N,
    2C, H/2, W/2]."""

    def __init__(self, outputs: int, beta: int, average: bool) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2) if average else None
        self.pad = beta * (outputs // 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::2, ::2] if self.pool is None else self.pool(x)
        return F.pad(x, (0, 0, 0, 0, self.pad, self.pad))


class ReCUConv(nn.Sequential):
    """Sign, binary convolution, learnable scale behind it, BatchNormalization."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int) -> None:
        super().__init__(
            Sign(),
            conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=rectified_clamp),
            ChannelScale(outputs, beta=beta),
            Norm2d(outputs, beta=beta),
        )


class IRConv(nn.Sequential):
    """Sign with a tanh residue, convolution with balanced standardised weights, BatchNormalization."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int) -> None:
        super().__init__(
            TanhSign(),
            conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=balanced),
            Norm2d(outputs, beta=beta),
        )


class FractionalConv(nn.Module):
    """Two binary digits of the activation, convolved with one latent weight that both layers share."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int) -> None:
        super().__init__()
        self.high_sign, self.low_sign = NestedSign(), NestedSign()
        self.low_move = LearnableBias(inputs, beta=beta)
        self.high = conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=clipped)
        self.low = conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=clipped)
        self.low.weight = self.high.weight
        self.high_bn, self.low_bn = Norm2d(outputs, beta=beta), Norm2d(outputs, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        high = self.high_bn(self.high(self.high_sign(x)))
        result: Tensor = high + self.low_bn(self.low(self.low_sign(self.low_move(x))))
        return result


class Block(nn.Module):
    """Two convolutions, each with its shortcut and a hard tanh."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, beta: int, unit: Callable[..., nn.Module], average: bool
    ) -> None:
        super().__init__()
        self.unit1 = unit(inputs, outputs, stride, beta)
        self.unit2 = unit(outputs, outputs, 1, beta)
        self.shortcut = OptionA(outputs, beta, average) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.unit1(x) + self.shortcut(x))
        return F.hardtanh(self.unit2(x) + x)


class ResNet20(nn.Module):
    """Stages of blocks, in the paper three of three at 16, 32 and 64 channels: [N, channels, H, W] -> [N, classes].

    `unit(inputs, outputs, stride, beta)` makes one binary convolution with all that belongs to it; `average`
    downsamples the shortcut by AvgPool instead of a stride; `stem` is the stride of the first convolution."""

    def __init__(
        self,
        *,
        classes: int,
        size: int,
        unit: Callable[..., nn.Module],
        average: bool,
        beta: int = 1,
        channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        depth: int = 3,
        stem: int = 1,
    ) -> None:
        super().__init__()
        self.beta = beta
        first, last = widths[0], widths[-1]
        self.conv1, self.bn1 = Conv2d(channels, first, 3, stride=stem), Norm2d(first)
        blocks: list[nn.Module] = []
        inputs = first
        for width in widths:
            for i in range(depth):
                blocks.append(Block(inputs, width, 2 if i == 0 and width > first else 1, beta, unit, average))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.bn2 = Norm1d(last, beta=beta)
        self.fc = LinearClassifier(last, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = replicate(F.hardtanh(self.bn1(self.conv1(x))), self.beta)
        x = self.blocks(x)
        x = F.avg_pool2d(x, x.size(3)).flatten(1)
        result: Tensor = self.fc(self.bn2(x))
        return result
