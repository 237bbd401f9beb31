"""Parameters to begin a training with, unlike those of `models.drawing`, which test a compiler."""

from __future__ import annotations

import torch
from torch import nn

from models.channels import ChannelScale, LearnableBias, PRelu
from models.layers import Layer


@torch.no_grad()
def freshen(network: nn.Module, seed: int) -> nn.Module:
    """Give an original network (beta = 1) the parameters that a training begins with; returns it, in eval mode.

    Weights, latent ones too, are drawn as He et al. do (arXiv 1502.01852); normalisations, scales and shifts do nothing
    yet, and PReLU's slopes are 1/4.  The same seed gives the same parameters."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, Layer):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, PRelu):
            nn.init.constant_(module.weight, 0.25)
        elif isinstance(module, ChannelScale):
            nn.init.ones_(module.alpha)
        elif isinstance(module, LearnableBias):
            nn.init.zeros_(module.bias)
    return network.eval()
