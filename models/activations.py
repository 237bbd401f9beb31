"""How networks write the binarisation of a feature map.

Every class computes -1 or +1 from the sign of its input and spells it as a published network does, because
the spelling is what an exporter writes into a file.  They differ at exactly 0: `Sign`, `PolynomialSign`,
`ClipSign`, `TanhSign` and `ResidueSign` give 0 there, `NestedSign`, `WhereSign` and `CastSign` give +1."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Binarise(nn.Module):
    """Base of all binarisations of a feature map: float32 of any shape to the same shape.

    `models.trace` finds the binarised maps of a network by this type.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Binarise `x`; defined by the subclasses."""
        raise NotImplementedError


class Sign(Binarise):
    """`sign(x)` alone, as networks do that put the straight-through estimator into an autograd function
    (ReCU)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `soft`: `(hard - soft) + soft`, with `soft` detached once."""
    return hard.detach() - soft.detach() + soft


class ResidueSign(Binarise):
    """Straight-through with the identity as the soft function (Bengio et al., arXiv 1308.3432)."""

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(torch.sign(x), x)


class ClipSign(Binarise):
    """Straight-through with the hard tanh (Courbariaux et al., arXiv 1602.02830)."""

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(torch.sign(x), torch.clamp(x, -1.0, 1.0))


class TanhSign(Binarise):
    """Straight-through with `k * tanh(t * x)`, the error decay estimator of IR-Net (arXiv 1909.10788) late in
    training."""

    def __init__(self, slope: float = 4.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(torch.sign(x), max(1.0 / self.slope, 1.0) * torch.tanh(self.slope * x))


class PolynomialSign(Binarise):
    """Straight-through with the piecewise polynomial of Bi-Real Net (arXiv 1808.00278), in the three masked
    steps in which the published code of Bi-Real Net, ReActNet and AdamBNN writes it."""

    def forward(self, x: Tensor) -> Tensor:
        below = (x < -1).to(x.dtype)
        negative = (x < 0).to(x.dtype)
        inside = (x < 1).to(x.dtype)
        soft = -1 * below + (x * x + 2 * x) * (1 - below)
        soft = soft * negative + (-x * x + 2 * x) * (1 - negative)
        soft = soft * inside + 1 * (1 - inside)
        return straight_through(torch.sign(x), soft)


class NestedSign(Binarise):
    """`sign(sign(x) + 0.1)`: +1 at 0, the spelling of larq's `ste_sign`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(torch.sign(x) + 0.1)


class WhereSign(Binarise):
    """`where(x >= 0, 1, -1)`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))


class CastSign(Binarise):
    """`2 * float(x >= 0) - 1`."""

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype) * 2 - 1
