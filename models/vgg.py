"""VGG-small as ReCU binarises it (Xu et al., arXiv 2103.12369): MaxPool between convolution and
BatchNormalization, hard tanh, and the last map flattened into the classifier."""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import ResidueSign
from models.channels import ChannelScale, Norm2d
from models.layers import Conv2d, LinearClassifier, conv, replicate
from models.weightings import rectified_clamp


class VGGSmall(nn.Module):
    """A real stem and five binary 3x3 convolutions: [N, 3, size, size] -> [N, classes]; `size` a multiple of
    8."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(Conv2d(3, 128, 3), Norm2d(128), nn.Hardtanh())
        body: list[nn.Module] = []
        inputs = 128
        for width, pool in ((128, True), (256, False), (256, True), (512, False), (512, True)):
            body += [
                ResidueSign(),
                conv(inputs, width, 3, beta=beta, weighting=rectified_clamp),
                ChannelScale(width, beta=beta),
            ]
            body += [nn.MaxPool2d(2, 2)] if pool else []
            body += [Norm2d(width, beta=beta), nn.Hardtanh()]
            inputs = width
        self.body = nn.Sequential(*body)
        self.fc = LinearClassifier(512 * (size // 8) ** 2, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(replicate(self.stem(x), self.beta))
        result: Tensor = self.fc(x.view(x.size(0), -1))
        return result
