"""Statistics of a network that was trained, on one large batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def settle(network: nn.Module, images: Tensor) -> None:
    """Give normalisations the statistics of images, and leave their affines as they were trained.

    Running averages of a training are of networks that change from batch to batch; where binary weights change their
    signs, that is far from the network that remains.  `calibrate` is for networks that were compiled: it keeps what a
    folded normalisation computes.  The network is in evaluation mode afterwards.

    Args:
        network: a network of `to_torch`, or any other.
        images: [N, C, H, W], one batch.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.train()
    try:
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()
