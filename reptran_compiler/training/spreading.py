"""Copies of a map that begin as different ones."""

from __future__ import annotations

import math

import torch
from torch import nn

from reptran_compiler.training.norms import RepNorm


def spread(network: nn.Module, distance: float = 0.5) -> int:
    """Shift the copies of each map behind a RepConv against each other, so that they are binarised at other thresholds.

    The beta blocks of channels that a compilation gives are equal, and what reads them reads one map beta times.  Their
    offsets get evenly spaced shifts from -`distance` to `distance`, in standard deviations of the normalised channel;
    the mean over the copies stays.  This changes what the network computes: it is for the beginning of a training.

    Args:
        network: a Rep network of `to_torch`; another one stays as it is.
        distance: how far, at most.

    Returns:
        How many normalisations were changed.
    """
    norms = [module for module in network.modules() if isinstance(module, RepNorm) and math.isqrt(module.times) > 1]
    with torch.no_grad():
        for norm in norms:
            beta = math.isqrt(norm.times)
            shifts = torch.linspace(-distance, distance, beta, dtype=norm.bias.dtype, device=norm.bias.device)
            norm.bias.view(beta, -1).add_(shifts[:, None] * norm.weight.view(beta, -1).abs())
    return len(norms)
