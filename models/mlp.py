"""The binary MLP of BinaryNet (Courbariaux et al., "Binarized Neural Networks", arXiv 1602.02830), in the
width of its Torch version: three hidden layers of 2048, all weights binary, the first and the last layer's
too, +1 at 0."""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import WhereSign
from models.channels import Norm1d
from models.layers import Linear, LinearClassifier, linear, replicate
from models.weightings import sign


class BinaryMLP(nn.Module):
    """[N, 1, size, size] -> [N, classes]; MNIST's size is 28."""

    def __init__(self, *, classes: int, size: int, beta: int = 1, width: int = 2048) -> None:
        super().__init__()
        self.beta = beta
        self.stem = nn.Sequential(Linear(size * size, width, weighting=sign), Norm1d(width))
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(WhereSign(), linear(width, width, beta=beta, weighting=sign), Norm1d(width, beta=beta))
                for _ in range(2)
            )
        )
        self.sign = WhereSign()
        self.fc = LinearClassifier(width, classes, beta=beta, bias=False, weighting=sign)
        self.norm = Norm1d(classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(replicate(self.stem(x.flatten(1)), self.beta))
        result: Tensor = self.norm(self.fc(self.sign(x)))
        return result
