"""The magnitude of latent weights, which says nothing in a file and decides how they are trained."""

from __future__ import annotations

import math

import torch
from torch import nn

from reptran_compiler.training.layers import Layer

#: The root mean square that `rescale` gives to latent weights: well inside of the range of a clip, near enough to 0 for
#: some hundred steps of Adam to change a sign.
MAGNITUDE = 0.1


def rescale(network: nn.Module, magnitude: float = MAGNITUDE) -> int:
    """Bring the latent weights of each binary layer to one magnitude; what the network computes stays.

    Only their signs count in a file.  ReCU's and IR-Net's are standardised, a file of binary weights has them at 1, and
    those of a trained network may be anywhere: a clip lets no gradient through above 1, and Adam goes about a learning
    rate a step, whatever the gradient.  Neither would ever change a sign.  Weights that something else than binary
    layers reads as well stay.

    Args:
        network: a network of `to_torch`, or one that holds it.
        magnitude: the root mean square of each layer's latent weights.

    Returns:
        How many tensors of latent weights were brought there.

    Raises:
        ValueError: the magnitude is not above 0.
    """
    if not magnitude > 0:
        raise ValueError(f"the magnitude of latent weights is {magnitude}; it has to be above 0")
    latent: dict[nn.Parameter, None] = {}
    others: set[nn.Parameter] = set()
    for module in network.modules():
        own = module.weight if isinstance(module, Layer) and module.binarise is not None else None
        latent.update({} if own is None else {own: None})
        others.update(each for each in module.parameters(recurse=False) if each is not own)
    scaled = [weight for weight in latent if weight not in others]
    with torch.no_grad():
        for weight in scaled:
            wide = weight.double()
            mean = wide.square().mean().sqrt().item()
            if 0 < mean < math.inf:
                least = torch.finfo(weight.dtype).tiny * wide.sign()  # what would round to 0 keeps its sign
                wide = wide * (magnitude / mean)
                weight.copy_(torch.where(wide.abs() < least.abs(), least, wide))
    return len(scaled)
