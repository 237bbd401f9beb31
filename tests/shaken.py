"""A network as training leaves it, whose numbers are all others."""

from __future__ import annotations

import torch

from reptran_compiler.training import Network

#: By how much a network in torch and its file may differ: the judge's limit for float32; what is seen is below 1e-6.
LIMIT = 1e-5


def shaken(net: Network) -> Network:
    """With every parameter and every statistic moved, as training does."""
    torch.manual_seed(0)
    with torch.no_grad():
        for each in net.parameters():
            each.add_(0.2 * each.abs().mean() * torch.randn_like(each) + 0.01 * torch.randn_like(each))
        for name, each in net.named_buffers():
            if name.endswith("running_mean"):
                each.add_(0.3 * torch.randn_like(each))
            elif name.endswith("running_var"):
                each.mul_(torch.rand_like(each) + 0.5)
    return net
