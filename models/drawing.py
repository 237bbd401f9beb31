"""Parameters and statistics drawn from a seed, so that nothing in a network is degenerate.

Latent weights have both signs, and magnitude and shape of their distribution differ from filter to filter;
slopes and BatchNormalization's affine parameters differ from channel to channel; running statistics and
learnable biases centre the maps of random images, not quite, and differently in each channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.channels import ChannelScale, LearnableBias, PRelu
from models.layers import Layer
from models.weightings import residue, stored


def _between(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(like.shape, generator=generator)


def _layer(layer: Layer, generator: torch.Generator) -> None:
    """Draw a layer; no weight is so close to its filter's mean that rounding decides on which side."""
    weight = layer.weight
    filters = weight.shape[0]
    per_filter = (filters, *([1] * (weight.dim() - 1)))
    spread = _between(torch.empty(per_filter), 0.5, 1.5, generator) / weight[0].numel() ** 0.5
    tails = torch.randint(1, 3, per_filter, generator=generator)
    z = torch.randn(weight.shape, generator=generator)
    drawn = spread * torch.sign(z) * z.abs() ** tails
    centred = drawn - drawn.flatten(1).mean(1).view(per_filter)
    drawn = torch.where(centred.abs() < 1e-4 * spread, drawn + 1e-3 * spread, drawn)
    weight.copy_(residue(drawn) if layer.weighting is stored else drawn)
    if layer.bias is not None:
        layer.bias.copy_(0.3 * torch.randn(layer.bias.shape, generator=generator))


def _channels(module: nn.Module, generator: torch.Generator, negative_gamma: bool) -> None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        gamma = _between(module.weight, 0.5, 1.5, generator)
        if negative_gamma:
            gamma = torch.where(torch.rand(gamma.shape, generator=generator) < 0.3, -gamma, gamma)
        module.weight.copy_(gamma)
        module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    elif isinstance(module, PRelu):
        module.weight.copy_(_between(module.weight, -0.1, 0.5, generator))
    elif isinstance(module, ChannelScale):
        module.alpha.copy_(_between(module.alpha, 0.2, 1.0, generator))


def _calibrate(network: nn.Module, images: Tensor, generator: torch.Generator) -> None:
    """Set all running statistics and learnable biases by one pass, in float64 and to four digits, so that
    rounding cannot change what is drawn."""

    def before(module: Any, args: tuple[Tensor, ...]) -> None:
        x = args[0].transpose(0, 1).flatten(1)
        variance = x.var(1)
        variance = variance + 0.1 * variance.mean() + 1e-3
        shift = 0.3 * torch.randn(variance.shape, generator=generator)
        centre = _digits(x.mean(1) + shift * variance.sqrt())
        if isinstance(module, LearnableBias):
            module.bias.copy_(-centre.view_as(module.bias))
        else:
            module.running_mean.copy_(centre)
            module.running_var.copy_(_digits(variance * _between(variance, 0.5, 2.0, generator)))

    centring = [m for m in network.modules() if isinstance(m, (nn.modules.batchnorm._BatchNorm, LearnableBias))]
    hooks = [module.register_forward_pre_hook(before) for module in centring]
    try:
        network.double()(images.double())
    finally:
        network.float()
        for hook in hooks:
            hook.remove()


def _digits(x: Tensor, digits: int = 4) -> Tensor:
    unit = 10.0 ** (torch.floor(torch.log10(x.abs().clamp_min(1e-30))) + 1 - digits)
    return torch.round(x / unit) * unit


@torch.no_grad()
def draw(network: nn.Module, image: tuple[int, int, int], seed: int, *, negative_gamma: bool = False) -> None:
    """Fill all parameters and statistics of an original network (beta = 1) and leave it in eval mode.

    `image` is (channels, height, width); `negative_gamma` makes a third of BatchNormalization's scales
    negative."""
    generator = torch.Generator().manual_seed(seed)
    network.eval()
    for module in network.modules():
        if isinstance(module, Layer):
            _layer(module, generator)
        else:
            _channels(module, generator, negative_gamma)
    # One image alone has no variance behind a Flatten.
    _calibrate(network, torch.randn((4 if image[1] <= 128 else 2, *image), generator=generator), generator)
