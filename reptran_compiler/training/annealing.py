"""What a trainer asks of the binarisations in a network."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from reptran_compiler.errors import BadInput


@runtime_checkable
class Anneals(Protocol):
    """A module whose straight-through estimator changes during training."""

    def anneal(self, progress: float) -> None:
        """Take the form for a time of a step: 0 is its beginning, 1 its end."""


@runtime_checkable
class BinarisesWeights(Protocol):
    """A module that makes binary weights of latent ones, unless `real`."""

    real: bool


def anneal(network: nn.Module, progress: float) -> None:
    """Tell every estimator of a network how much of a step is over, from 0 to 1."""
    for module in network.modules():
        if isinstance(module, Anneals):
            module.anneal(progress)


def weights_real(network: nn.Module, real: bool) -> None:
    """Keep a network's binary weights real, or binary again.

    Raises:
        BadInput: they shall be real, and the network has none that can be.
    """
    found = [module for module in network.modules() if isinstance(module, BinarisesWeights)]
    if real and not found:
        raise BadInput("the recipe's first step trains real weights, and the network has no layer of binary weights")
    for module in found:
        module.real = real
