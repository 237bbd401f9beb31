"""ReActNet-A (Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation
Functions", arXiv 2003.03488) and step 1 of AdamBNN (Liu et al., "How Do Adam and Training Strategies Help
BNNs Optimization?", arXiv 2106.11309).

MobileNetV1's structure with every depthwise-separable block made of a binary 3x3 and a binary 1x1
convolution; where the channels double, two 1x1 convolutions read the same signs and their results are
concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from models.activations import PolynomialSign
from models.channels import LearnableBias, Norm2d, PRelu
from models.layers import Conv2d, LinearClassifier, conv, replicate
from models.weightings import Weighting, clipped

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


class RPReLU(nn.Sequential):
    """PReLU between two learnable shifts."""

    def __init__(self, channels: int, beta: int) -> None:
        super().__init__(
            LearnableBias(channels, beta=beta), PRelu(channels, beta=beta), LearnableBias(channels, beta=beta)
        )


class Block(nn.Module):
    """3x3 convolution, then one 1x1 convolution (or two and Concat, where the channels double), each with its
    shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int, weighting: Weighting | None) -> None:
        super().__init__()
        layer = partial(conv, beta=beta, weighting=weighting)
        self.move1 = LearnableBias(inputs, beta=beta)
        self.sign1 = PolynomialSign()
        self.conv3x3 = layer(inputs, inputs, 3, stride=stride)
        self.bn1 = Norm2d(inputs, beta=beta)
        self.pool = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()
        self.act1 = RPReLU(inputs, beta)
        self.move2 = LearnableBias(inputs, beta=beta)
        self.sign2 = PolynomialSign()
        self.pointwise = nn.ModuleList(layer(inputs, inputs, 1) for _ in range(outputs // inputs))
        self.bn2 = nn.ModuleList(Norm2d(inputs, beta=beta) for _ in range(outputs // inputs))
        self.act2 = RPReLU(outputs, beta)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv3x3(self.sign1(self.move1(x))))
        y = self.act1(self.pool(x) + y)
        signs = self.sign2(self.move2(y))
        halves = [bn(pointwise(signs)) + y for pointwise, bn in zip(self.pointwise, self.bn2, strict=True)]
        result: Tensor = self.act2(torch.cat(halves, dim=1) if len(halves) > 1 else halves[0])
        return result


class ReActNet(nn.Module):
    """Stem, blocks, global pooling and a linear classifier: [N, channels, H, W] -> [N, classes].

    `weighting` None makes it AdamBNN's step-1 network: binary activations, real weights.
    """

    def __init__(
        self,
        *,
        classes: int,
        size: int,
        beta: int = 1,
        channels: int = 3,
        widths: Sequence[int] = WIDTHS,
        weighting: Weighting | None = clipped,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.features = beta * widths[-1]
        self.conv1 = Conv2d(channels, widths[0], 3, stride=2)
        self.bn1 = Norm2d(widths[0])
        self.blocks = nn.Sequential(
            *(
                Block(a, b, 2 if a != b and i > 0 else 1, beta, weighting)
                for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = LinearClassifier(widths[-1], classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = replicate(self.bn1(self.conv1(x)), self.beta)
        x = self.pool(self.blocks(x))
        result: Tensor = self.fc(x.view(-1, self.features))
        return result
