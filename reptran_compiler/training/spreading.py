"""Copies of a map that begin as different ones."""

from __future__ import annotations

import torch
from torch import nn

from reptran_compiler import provenance
from reptran_compiler.training.network import Network
from reptran_compiler.training.norms import RepNorm


def spread(network: nn.Module, distance: float = 0.5) -> int:
    """Shift the copies of each map behind a RepConv against each other, so that they are binarised at other thresholds.

    The beta blocks of channels that a compilation gives are equal, and what reads them reads one map beta times.  Their
    offsets get evenly spaced shifts from -`distance` to `distance`, in standard deviations of the normalised channel;
    the mean over the copies stays.  This changes what the network computes: it is for the beginning of a training.

    Only normalisations directly behind a RepConv are shifted: with `--bn keep` those with no scale in between, and with
    `--scope layer`, which has no copies, none.  The copies of the stem's map are equal until something with numbers of
    its own for each copy follows, such as a learnable bias.

    Args:
        network: a Rep network of `to_torch`; another one stays as it is.
        distance: how far, at most.

    Returns:
        How many normalisations were changed.
    """
    held = (each for each in network.modules() if isinstance(each, Network))
    recorded = next((provenance.recorded_beta(each.blueprint.model) for each in held), None) or ""
    beta = int(recorded) if recorded.isdigit() else 1
    modules = network.modules() if beta > 1 else ()
    norms = [module for module in modules if isinstance(module, RepNorm) and module.times == beta**2]
    with torch.no_grad():
        for norm in norms:
            shifts = torch.linspace(-distance, distance, beta, dtype=norm.bias.dtype, device=norm.bias.device)
            norm.bias.view(beta, -1).add_(shifts[:, None] * norm.weight.view(beta, -1).abs())
    return len(norms)
