"""Real-to-Binary Net's ResNet-18 (Martinez et al., "Training Binary Neural Networks with Real-to-Binary
Convolutions", arXiv 2003.11535): a squeeze-and-excite gate computed from the real-valued input rescales each
binary convolution's channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.activations import ResidueSign
from models.bireal import downsampling
from models.channels import Norm2d, PRelu
from models.layers import Conv2d, LinearClassifier, conv, linear, replicate
from models.weightings import clipped


class Gate(nn.Module):
    """Global pooling, two real linear layers with biases, sigmoid: a factor for each output channel, [N,
    beta*Co, 1, 1]."""

    def __init__(self, inputs: int, outputs: int, beta: int, reduction: int = 8) -> None:
        super().__init__()
        self.squeeze = linear(inputs, inputs // reduction, bias=True, beta=beta)
        self.excite = linear(inputs // reduction, outputs, bias=True, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        y = self.excite(torch.relu(self.squeeze(x.mean((2, 3)))))
        return torch.sigmoid(y)[:, :, None, None]


class Block(nn.Module):
    """BatchNormalization, Sign, binary 3x3 convolution, gate, PReLU, and the shortcut around it all."""

    def __init__(self, inputs: int, outputs: int, stride: int, beta: int) -> None:
        super().__init__()
        self.bn, self.sign = Norm2d(inputs, beta=beta), ResidueSign()
        self.conv = conv(inputs, outputs, 3, stride=stride, beta=beta, weighting=clipped)
        self.gate, self.act = Gate(inputs, outputs, beta), PRelu(outputs, beta=beta)
        self.shortcut = downsampling(inputs, outputs, stride, beta)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.sign(self.bn(x))) * self.gate(x)
        result: Tensor = self.act(y) + self.shortcut(x)
        return result


class RealToBinary18(nn.Module):
    """Four stages of four blocks, [N, 3, H, W] -> [N, classes]."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(Conv2d(3, 64, 7, stride=2), Norm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        inputs = 64
        for stage, width in enumerate((64, 128, 256, 512)):
            for i in range(4):
                blocks.append(Block(inputs, width, 2 if stage > 0 and i == 0 else 1, beta))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = LinearClassifier(512, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(replicate(self.stem(x), self.beta))
        result: Tensor = self.fc(self.pool(x).flatten(1))
        return result
