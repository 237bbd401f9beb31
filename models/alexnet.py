"""XNOR-Net's AlexNet (Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks", arXiv 1603.05279): BatchNormalization, Sign, binary layer with a bias, ReLU; binary hidden linear
layers behind a Flatten.  Its weights are those of a finished checkpoint: mean|w| * sign(w) as stored numbers.
Without the factor for the activations (its K)."""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import CastSign
from models.channels import Norm1d, Norm2d
from models.layers import Conv2d, LinearClassifier, conv, linear, replicate
from models.weightings import stored


class AlexNet(nn.Module):
    """[N, 3, size, size] -> [N, classes]; the paper's size is 227, with 256 * 6 * 6 features in front of the
    linear layers."""

    def __init__(self, *, classes: int, size: int, beta: int = 1) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(
            Conv2d(3, 96, 11, stride=4, padding=0, bias=True), Norm2d(96), nn.ReLU(), nn.MaxPool2d(3, 2)
        )
        features: list[nn.Module] = []
        for inputs, outputs, kernel, pool in (
            (96, 256, 5, True),
            (256, 384, 3, False),
            (384, 384, 3, False),
            (384, 256, 3, True),
        ):
            features += [
                Norm2d(inputs, beta=beta),
                CastSign(),
                conv(inputs, outputs, kernel, bias=True, beta=beta, weighting=stored),
                nn.ReLU(),
            ]
            features += [nn.MaxPool2d(3, 2)] if pool else []
        self.features = nn.Sequential(*features)
        side = (size - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        hidden: list[nn.Module] = []
        for inputs in (256 * side * side, 4096):
            hidden += [
                Norm1d(inputs, beta=beta),
                CastSign(),
                linear(inputs, 4096, bias=True, beta=beta, weighting=stored),
                nn.ReLU(),
            ]
        self.hidden = nn.Sequential(*hidden)
        self.norm = Norm1d(4096, beta=beta)
        self.fc = LinearClassifier(4096, classes, beta=beta)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(replicate(self.stem(x), self.beta))
        result: Tensor = self.fc(self.norm(self.hidden(x.flatten(1))))
        return result
