"""How networks compute binary weights from latent ones.

A weighting is a function of a latent weight [Co, ...] (axis 0: the filters) to the weight that the layer
uses, of the same shape.  Every one gives one magnitude per filter times a sign, up to the rounding of its
straight-through arithmetic, and every one is odd: negating a filter's latent weights negates its binary ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from models.activations import straight_through

Weighting = Callable[[Tensor], Tensor]


def _rest(w: Tensor) -> list[int]:
    """All axes of a weight but that of the filters."""
    return list(range(1, w.dim()))


def clipped(w: Tensor) -> Tensor:
    """Bi-Real Net and ReActNet: `mean|w| * sign(w)`, the mean taken axis by axis, straight-through with a
    clip."""
    scale = torch.abs(w)
    for axis in reversed(_rest(w)):
        scale = torch.mean(scale, dim=axis, keepdim=True)
    return straight_through(scale.detach() * torch.sign(w), torch.clamp(w, -1.0, 1.0))


def residue(w: Tensor) -> Tensor:
    """XNOR-Net's `mean|w| * sign(w)` (arXiv 1603.05279), straight-through with the identity."""
    return straight_through(w.abs().mean(_rest(w), keepdim=True) * torch.sign(w), w)


def stored(w: Tensor) -> Tensor:
    """A checkpoint that holds `mean|w| * sign(w)` itself, as XNOR-Net's code leaves it behind after
    training."""
    return w


def sign(w: Tensor) -> Tensor:
    """`sign(w)` without a magnitude (BinaryNet, arXiv 1602.02830; BinaryDenseNet)."""
    return torch.sign(w)


def clipped_sign(w: Tensor) -> Tensor:
    """`sign(w)`, straight-through with a clip."""
    return straight_through(torch.sign(w), torch.clamp(w, -1.0, 1.0))


def rectified_clamp(w: Tensor, tau: float = 0.99) -> Tensor:
    """ReCU (arXiv 2103.12369): centre and standardise each filter, clamp it to a quantile of all weights,
    take the sign."""
    centred = w - w.mean(_rest(w), keepdim=True)
    standard = centred / (torch.sqrt(centred.var(_rest(w), keepdim=True) + 1e-5) / 2 / math.sqrt(2.0))
    bound = -math.log(2 - 2 * tau) * standard.abs().mean()
    return torch.sign(torch.minimum(torch.maximum(standard, -bound), bound))


def balanced(w: Tensor) -> Tensor:
    """IR-Net (arXiv 1909.10788): centre and standardise each filter; its sign times the power of 2 next to
    `mean|w|`."""
    per_filter = (-1, *([1] * (w.dim() - 1)))
    centred = w - w.flatten(1).mean(-1).view(per_filter)
    standard = centred / centred.flatten(1).std(-1).view(per_filter)
    shift = torch.round(torch.log(standard.abs().flatten(1).mean(-1)) / math.log(2.0))
    return torch.sign(standard) * torch.pow(2.0, shift).view(per_filter)
