"""Bi-Real Net 18 (Liu et al., "Bi-Real Net: Enhancing the Performance of 1-bit CNNs", arXiv 1808.00278) and
the ReActNet made from it (arXiv 2003.03488): ResNet-18 with a shortcut around every single convolution; a
downsampling shortcut is AvgPool, a real-valued 1x1 convolution and BatchNormalization."""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import Binarise, ClipSign, PolynomialSign
from models.channels import LearnableBias, Norm2d
from models.layers import Conv2d, LinearClassifier, conv, replicate
from models.reactnet import RPReLU
from models.weightings import clipped


def downsampling(inputs: int, outputs: int, stride: int, beta: int) -> nn.Module:
    """The real-valued shortcut where the shape changes, and Identity where it does not."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.AvgPool2d(2, stride), conv(inputs, outputs, 1, beta=beta), Norm2d(outputs, beta=beta))


class Block(nn.Module):
    """One binary 3x3 convolution and its shortcut; `react` adds RSign's and RPReLU's learnable parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int, react: bool) -> None:
        super().__init__()
        self.move = LearnableBias(inputs, beta=beta) if react else nn.Identity()
        self.sign: Binarise = ClipSign() if react else PolynomialSign()
        self.conv = conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=clipped)
        self.bn = Norm2d(outputs, beta=beta)
        self.shortcut = downsampling(inputs, outputs, stride, beta)
        self.act = RPReLU(outputs, beta) if react else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(self.sign(self.move(x))))
        result: Tensor = self.act(y + self.shortcut(x))
        return result


class BiRealNet18(nn.Module):
    """Four stages of four blocks, [N, 3, H, W] -> [N, classes]; `react` for ReActNet-18."""

    def __init__(self, *, classes: int, size: int, beta: int = 1, react: bool = False) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(Conv2d(3, 64, 7, stride=2), Norm2d(64))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        inputs = 64
        for stage, width in enumerate((64, 128, 256, 512)):
            for i in range(4):
                blocks.append(Block(inputs, width, 2 if stage > 0 and i == 0 else 1, beta, react))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = LinearClassifier(512, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = replicate(self.maxpool(self.stem(x)), self.beta)
        x = self.pool(self.blocks(x))
        result: Tensor = self.fc(x.view(x.size(0), -1))
        return result
