"""The magnitude of latent weights, which says nothing in a file and decides how they are trained."""

from __future__ import annotations

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
    rate a step, whatever the gradient.  Neither would ever change a sign.

    Args:
        network: a network of `to_torch`, or one that holds it.
        magnitude: the root mean square of each layer's latent weights.

    Returns:
        How many layers there are.

    Raises:
        ValueError: the magnitude is not above 0.
    """
    if not magnitude > 0:
        raise ValueError(f"the magnitude of latent weights is {magnitude}; it has to be above 0")
    weights = {
        id(module.weight): module.weight
        for module in network.modules()
        if isinstance(module, Layer) and module.binarise is not None and module.weight is not None
    }
    with torch.no_grad():
        for weight in weights.values():
            mean = weight.square().mean().sqrt()
            weight.mul_(magnitude / mean if mean > 0 else 1.0)
    return len(weights)
